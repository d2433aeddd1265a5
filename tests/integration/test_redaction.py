"""Two hundred secrets are said to the library, the command and the logs; none is found in what these leave."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from deploytrail_schemas import logs
from deploytrail_schemas.topics import Topic
from support.commands import running
from support.kafka import make_topics, read_topic, wait_for, write
from support.secrets import Planted, planted
from support.spool import command, environment, python, stored

SECRETS = planted(200, seed=1102)
SCRIPT = """
import json, sys
import deploytrail
for number, item in enumerate(json.load(open(sys.argv[1]))):
    said = {"tags": {item["name"]: item["secret"], "note": item["text"], "argv": "deploy " + item["text"]},
            "config_changes": {"a.b": item["text"]}, "justification": item["text"], "build_url": item["text"],
            "repository": item["text"], "raw_status": item["text"], "no_such_field_" + str(number): item["text"],
            "kind": item["text"], "occurred_at": item["text"], "version": "4.2.0",
            "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8"}
    with __import__("contextlib").suppress(RuntimeError):
        with deploytrail.track(**said):
            raise RuntimeError(item["text"])
    deploytrail.fail(deploytrail.start(**said), "x" * 4080 + " " + item["text"])
"""


def leaks(text: str | bytes) -> list[Planted]:
    data = text.encode() if isinstance(text, str) else text
    return [item for item in SECRETS if item.secret.encode() in data or json.dumps(item.secret)[1:-1].encode() in data]


def every_byte(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_secret_that_is_there_would_be_found() -> None:
    assert leaks(f"x{SECRETS[3].secret}y") == [SECRETS[3]]


def test_no_secret_reaches_the_spool_or_the_deploys_output(tmp_path: Path) -> None:
    spool, given = tmp_path / "spool", tmp_path / "given.json"
    given.write_text(json.dumps([{"name": i.name, "secret": i.secret, "text": i.text} for i in SECRETS]))
    done = python(SCRIPT, environment(spool), str(given))
    events = stored(spool)

    assert done.returncode == 0, done.stderr
    assert len(events) == 800
    assert all(event["commit_sha"].startswith("9fceb02d") for event in events)
    assert leaks(every_byte(spool)) == []
    assert leaks(done.stderr + done.stdout) == []
    assert "no_such_field_0" in done.stderr


def test_no_secret_of_a_command_line_is_kept_or_said(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    env = environment(spool)
    for item in SECRETS[:: len(SECRETS) // 8]:
        started = command("start", "--justification", item.text, "--tag", f"{item.name}={item.secret}", env=env)
        failed = command("fail", started.stdout.strip(), "--error", item.text, env=env)
        wrong = command("fail", "--exit-code", item.text, env=env)

        assert leaks(started.stdout + started.stderr + failed.stderr + wrong.stderr) == []
        assert wrong.returncode == 64
    assert len(stored(spool)) == 16
    assert leaks(every_byte(spool)) == []


def test_no_secret_stands_in_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    root, hooks = logging.getLogger(), (sys.excepthook, logging.getLogger().level)
    before, root.handlers = root.handlers, []
    try:
        logs.configure(logging.WARNING)
        log = logging.getLogger("deploytrail_processors.apps.base")
        for item in SECRETS:
            log.warning("it said %s", item.text)
            log.error(item.text)
            log.warning("arguments that do not fit %d", item.text, item.name)
            try:
                raise RuntimeError(item.text)
            except RuntimeError:
                log.exception("failed on %s", item.name, stack_info=True)
        try:
            raise ValueError(SECRETS[0].text)
        except ValueError as error:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        root.handlers = before
        sys.excepthook = hooks[0]
        root.setLevel(hooks[1])
    said = capsys.readouterr().err

    assert said.count("WARNING") >= 400
    assert said.count("Traceback") == 201
    assert "the process ends by an error" in said
    assert leaks(said) == []


def test_no_secret_of_what_cannot_be_read_stands_in_the_dead_letters(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    env = {"DEPLOYTRAIL_KAFKA": own_kafka, "DEPLOYTRAIL_STATE": str(tmp_path / "state")}
    written = [(1, b"host-1", f"no record: {item.text}".encode()) for item in SECRETS]
    write(own_kafka, Topic.INTAKE, written)
    with running("processor", "intake", env=env, cwd=tmp_path) as worker:
        wait_for(lambda: len(read_topic(own_kafka, Topic.DEAD_LETTERS)) >= len(SECRETS), what="the dead letters")
        assert worker.stop() == 0
    letters = read_topic(own_kafka, Topic.DEAD_LETTERS)
    said = b"\n".join(part for m in letters for part in (m.value() or b"", m.key() or b"", repr(m.headers()).encode()))

    assert len(letters) == len(SECRETS)
    assert leaks(b"\n".join(value for _, _, value in written)) == SECRETS
    assert leaks(said + "".join(worker.lines).encode() + every_byte(tmp_path / "state")) == []
