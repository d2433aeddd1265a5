"""A proof bundle that somebody made to harm its auditor: it opens no file, steers no terminal, and is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.avro_writer import long_bytes
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.registry import SingleObject
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.log import verify_proof
from deploytrail_sinks.archive.log.prove import prove
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.segment import Record
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import LOG_KEY, TOPIC, fill, published
from support.values import NOON, event

TRUST = f"log {LOG_KEY.verifier}\nquorum none\n"
OUT = "../../../outside"
STEERS = "\x1b[2K\x1b[1A\r\nthe proof holds: 99 records of deployment 'shop-3'\x07\u202e\x9b2J"
# What Python does for itself, when it imports a module late.
OWN = ("import", "exec", "compile", "os.listdir", "os.scandir", "marshal.loads", "object.", "sys.", "code.")
ALONE = f"""
import sys
sys.path.insert(0, sys.argv[1])
import verify_proof
seen = []
own = {OWN!r}
installed = (sys.prefix, sys.base_prefix)
def watch(what, about):
    if not what.startswith(own) and not str(about[:1][0] if about else "").startswith(installed):
        seen.append((what, str(about[:1])))
sys.addaudithook(watch)
code = verify_proof.main(sys.argv[2:])
print(seen, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bundle")
    store = LocalFolder(folder / "archive")
    fill(store, range(40))
    published(folder / "signer", store)
    return prove(store, "shop-3", SingleObject())[0]


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    again = json.loads(json.dumps(value))
    inner = again
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return again


def lies(bundle: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """The bundle with a text wherever one fits."""
    row = bundle["records"][0]
    prefix, schema = next(iter(bundle["schemas"].items()))
    named = json.dumps({"type": text, "name": text, "fields": [{"name": text, "type": text}]})
    return [
        *(changed(bundle, (name,), text) for name in ("deployment", "checkpoint", "format", "records", "schemas")),
        *(changed(bundle, ("records", 0, name), text) for name in row),
        *(changed(bundle, ("records", 0, "record", name), text) for name in row["record"]),
        changed(bundle, ("records", 0, "proof"), [text]),
        changed(bundle, ("checkpoint",), bundle["checkpoint"].replace("example.com/archive", text)),
        changed(bundle, ("schemas", prefix), named),
        changed(bundle, ("schemas", prefix), text),
        changed(bundle, ("schemas", prefix), schema.replace('"service"', json.dumps(text))),
    ]


def harmless(bundle: dict[str, Any], text: str) -> dict[str, Any]:
    """The bundle with more than is read."""
    schema = next(iter(bundle["schemas"].values()))
    return {**changed(bundle, ("schemas", text), schema), text: text, "$ref": f"file://{text}"}


def checked(bundle: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    """The auditor's file in a process of its own; what it touched is on standard error."""
    (folder / "bundle").write_text(json.dumps(bundle))
    (folder / "trust").write_text(TRUST)
    alone = [sys.executable, "-I", "-c", ALONE, str(Path(verify_proof.__file__).parent)]
    return subprocess.run(
        [*alone, "bundle", "--trust", "trust"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.requirement("M5.1")
def test_the_auditors_file_opens_two_files_and_touches_nothing_else(bundle: dict[str, Any], tmp_path: Path) -> None:
    whole = checked(bundle, tmp_path)
    hostile = checked(harmless(bundle, OUT), tmp_path)
    expected = "[('open', \"('bundle',)\"), ('open', \"('trust',)\")]"

    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert whole.stderr.splitlines()[-1] == expected
    assert hostile.returncode == 0  # what is not read says nothing
    assert hostile.stderr.splitlines()[-1] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "trust"]


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("text", [OUT, "/etc/hostname", f"file://{OUT}", STEERS, "\ud800", "x" * 10_000, ""])
def test_no_text_in_a_bundle_is_followed_or_steers_a_terminal(
    bundle: dict[str, Any],
    tmp_path: Path,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "trust").write_text(TRUST)
    opened: list[str] = []
    whole = open

    def watched(file: Any, *of: Any, **more: Any) -> Any:
        opened.append(Path(file).name)
        return whole(file, *of, **more)

    monkeypatch.setattr("builtins.open", watched)
    for lie in (harmless(bundle, text), *lies(bundle, text)):
        (tmp_path / "bundle").write_text(json.dumps(lie))
        opened.clear()
        code = verify_proof.main([str(tmp_path / "bundle"), "--trust", str(tmp_path / "trust")])
        said = capsys.readouterr().out

        lines = said.removesuffix("\n").split("\n")

        assert opened == ["bundle", "trust"]
        assert code == (0 if "$ref" in lie else 1)
        assert code == 0 or (len(lines) == 1 and said.startswith("REFUSED: "))
        assert all(" " <= letter <= "~" for line in lines for letter in line)


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("deployment", [OUT, "/etc/outside", "..", "a/../../b", "x\x00y", "\u202e"])
def test_a_bundle_is_written_where_it_was_asked_for(
    deployment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalFolder(tmp_path / "archive")
    archive = PartitionArchive(store, TOPIC, 1, frozenset())
    archive.resume()
    value = encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, deployment_id=deployment))
    archive.add(Record(0, NOON // 1000, 1, b"k", value, ()))
    archive.close_segments()
    published(tmp_path / "signer", store)
    here = tmp_path / "a/b/c/d"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{tmp_path / 'archive'}")
    before = {path for path in tmp_path.rglob("*")}

    assert command.main(["prove", deployment]) == 0
    made = {path for path in tmp_path.rglob("*")} - before
    assert [path.parent for path in made] == [here]
    assert [path.name.endswith(".proof.json") for path in made] == [True]
    assert not Path("/etc/outside.proof.json").exists()


NULLS = {"type": "array", "items": "null", "name": "x"}
EMPTY = {"type": "array", "items": {"type": "record", "name": "y", "fields": []}, "name": "x"}
WIDE = {"type": "record", "name": "y", "fields": [{"name": f"f{n}", "type": "null"} for n in range(2000)]}
SELF = {"type": "record", "name": "x", "fields": [{"name": "f", "type": ["null", "x"]}]}


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (NULLS, long_bytes(1 << 40)),
        (NULLS, long_bytes(-(1 << 40)) + long_bytes(0)),
        (NULLS, long_bytes(100_000) * 1000),
        (EMPTY, long_bytes(1 << 62)),
        ({"type": "array", "items": NULLS, "name": "x"}, long_bytes(1 << 40) * 1000),
        ({"type": "array", "items": WIDE, "name": "x"}, long_bytes(1 << 40)),
        (SELF, long_bytes(1) * 100_000),
    ],
    ids=["nulls", "nulls in a block with its size", "many blocks", "empty records", "arrays of them", "wide", "itself"],
)
def test_a_schema_that_makes_much_out_of_few_bytes_is_refused_before_it_is_followed(
    schema: dict[str, Any], value: bytes
) -> None:
    record = {"value": b64encode(b"\0\0\0\0\1" + value).decode(), "offset": "1", "topic": TOPIC}
    tracemalloc.start()
    try:
        with pytest.raises((verify_proof.Refused, RecursionError)):  # check_bundle makes the one of the other
            verify_proof.fields_of(record, {"0000000001": json.dumps(schema)})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 20_000_000
