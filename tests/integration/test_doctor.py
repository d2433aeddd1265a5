"""`deploytrail doctor`: each thing that can be amiss is made so, and named with its fix."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from confluent_kafka.admin import AdminClient
from deploytrail import _doctor_host
from deploytrail._backlog import Backlog, producers
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_local import ports
from deploytrail_schemas.settings import Settings
from support.kafka import make_topics
from support.spool import command, environment, stored

TOKEN = "dtk_runner_0123456789abcdef"
SOON = ("--timeout", "2")  # where nobody will answer


@contextmanager
def gateway(**options: Any) -> Iterator[tuple[int, MemoryPublisher]]:
    """The real gateway app on a port of its own."""
    publisher = MemoryPublisher()
    with socket.create_server((ports.LOOPBACK, 0)) as listener:
        app = create_app(Settings(token=TOKEN), publisher)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1], publisher
        finally:
            server.should_exit = True
            thread.join(60)


def checks(tmp_path: Path, *words: str, **settings: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Exit status, and (state, detail, fix) of the worst check of each thing; what is there may answer late."""
    env = environment(tmp_path / "spool", **settings)
    done = command("doctor", "--json", "--timeout", "30", *words, env=env)
    told = json.loads(done.stdout)
    order = ["broken", "warning", "ok"]
    found = sorted(told["checks"], key=lambda check: order.index(check["state"]), reverse=True)

    assert done.stderr == ""
    assert told["ok"] == (done.returncode == 0)
    assert all(check["fix"] or check["state"] == "ok" for check in found)
    return done.returncode, {check["what"]: (check["state"], check["detail"], check["fix"]) for check in found}


def test_all_is_well_with_a_gateway_that_takes_the_token(tmp_path: Path) -> None:
    with gateway() as (port, publisher):
        code, found = checks(tmp_path, DEPLOYTRAIL_URL=f"http://127.0.0.1:{port}", DEPLOYTRAIL_TOKEN=TOKEN)

    assert code == 0
    assert found["gateway"] == ("ok", "it is ready to take events", "")
    assert found["token"] == ("ok", "the gateway takes the token", "")
    assert found["region"] == ("ok", "'eu-west-1' is partition 1", "")
    assert found["waiting"] == ("ok", "no event waits for delivery", "")
    assert publisher.records == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_people_read_lines_with_the_fix_below(tmp_path: Path) -> None:
    done = command("doctor", env=environment(tmp_path / "spool", DEPLOYTRAIL_TOKN="x"))

    assert "warning  settings: DEPLOYTRAIL_TOKN is no setting, and says nothing\n" in done.stdout
    assert "         fix: did you mean DEPLOYTRAIL_TOKEN?\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 broken, ")
    assert done.returncode == 0


@pytest.mark.parametrize("token", ["", "dtk_of_somebody_else_1234"])
def test_a_wrong_token_is_named_and_not_shown(tmp_path: Path, token: str) -> None:
    with gateway() as (port, _):
        code, found = checks(tmp_path, DEPLOYTRAIL_URL=f"http://127.0.0.1:{port}", DEPLOYTRAIL_TOKEN=token)

    assert code == 1
    assert found["token"][0] == "broken"
    assert "(401)" in found["token"][1]
    assert "DEPLOYTRAIL_TOKEN" in found["token"][2]
    assert "somebody" not in repr(found)


def test_a_gateway_without_kafka_is_named(tmp_path: Path) -> None:
    with gateway() as (port, publisher):
        publisher.away = True
        code, found = checks(tmp_path, DEPLOYTRAIL_URL=f"http://127.0.0.1:{port}", DEPLOYTRAIL_TOKEN=TOKEN)

    assert code == 1
    assert found["gateway"][:2] == ("broken", f"http://127.0.0.1:{port} is up and cannot take events: /readyz is 503")


def test_a_closed_port_is_named(tmp_path: Path) -> None:
    code, found = checks(tmp_path, DEPLOYTRAIL_URL=f"https://127.0.0.1:{ports.free_port()}")

    assert code == 1
    assert found["gateway"][0] == "broken"
    assert "the connection is refused: nothing listens on that port" in found["gateway"][1]


def test_a_port_that_swallows_everything_is_named_in_time(tmp_path: Path) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as silent:
        began = time.monotonic()
        code, found = checks(tmp_path, *SOON, DEPLOYTRAIL_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        took = time.monotonic() - began

    assert code == 1
    assert "no answer within 2 s" in found["gateway"][1]
    assert "firewall" in found["gateway"][2]
    assert took < 20  # two seconds of waiting, and a busy machine's own


def test_a_name_that_does_not_exist_is_named(tmp_path: Path) -> None:
    _, found = checks(tmp_path, DEPLOYTRAIL_URL="https://gateway.invalid")

    assert (
        found["gateway"][1]
        == "https://gateway.invalid cannot be reached: the name 'gateway.invalid' cannot be resolved"
    )


def test_another_server_is_not_taken_for_a_gateway(tmp_path: Path) -> None:
    with gateway() as (port, _):
        code, found = checks(tmp_path, DEPLOYTRAIL_URL=f"http://127.0.0.1:{port}/deploytrail")

    assert code == 1
    assert "answers /healthz with 404" in found["gateway"][1]


def test_tls_asked_of_a_port_without_it_is_named(tmp_path: Path) -> None:
    with gateway() as (port, _):
        _, found = checks(tmp_path, DEPLOYTRAIL_URL=f"https://127.0.0.1:{port}")

    assert "it does not speak TLS here" in found["gateway"][1]
    assert "is it http://?" in found["gateway"][2]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of nobody's CA, for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return paths


def test_a_certificate_of_an_unknown_ca_is_explained_and_then_trusted(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    with gateway(ssl_certfile=certificate[0], ssl_keyfile=certificate[1]) as (port, _):
        url = f"https://localhost:{port}"
        code, found = checks(tmp_path, DEPLOYTRAIL_URL=url, DEPLOYTRAIL_TOKEN=TOKEN)
        trusted = {"SSL_CERT_FILE": str(certificate[0]), "DEPLOYTRAIL_TOKEN": TOKEN}
        well, _ = checks(tmp_path, DEPLOYTRAIL_URL=url, **trusted)
        _, other_name = checks(tmp_path, DEPLOYTRAIL_URL=url.replace("localhost", "127.0.0.1"), **trusted)

    assert code == 1
    assert "its certificate is not accepted: self-signed certificate" in found["gateway"][1]
    assert "SSL_CERT_FILE" in found["gateway"][2]
    assert well == 0
    assert "use the host name that stands in the certificate" in other_name["gateway"][2]


def test_a_proxy_that_is_away_is_named(tmp_path: Path) -> None:
    proxy = f"http://me:secret@127.0.0.1:{ports.free_port()}"
    code, found = checks(tmp_path, DEPLOYTRAIL_URL="https://gateway.example", https_proxy=proxy, no_proxy="")

    assert code == 1
    assert "through the proxy 127.0.0.1" in found["gateway"][1]
    assert "secret" not in repr(found)


def test_a_token_in_clear_text_is_warned_of(tmp_path: Path) -> None:
    _, found = checks(tmp_path, DEPLOYTRAIL_URL="http://gateway.invalid", DEPLOYTRAIL_TOKEN=TOKEN)

    assert found["token"][:2] == ("warning", "it goes to http://gateway.invalid in clear text")


def test_an_unknown_scheme_is_named(tmp_path: Path) -> None:
    code, found = checks(tmp_path, DEPLOYTRAIL_URL="gateway.example")

    assert code == 1
    assert "DEPLOYTRAIL_URL has the scheme 'gateway.example'" in found["connection"][1]


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    code, found = checks(tmp_path, DEPLOYTRAIL_PARTITIONS="many")

    assert code == 1
    assert found["settings"][1].startswith("DEPLOYTRAIL_PARTITIONS is 'many'; expected a whole number")
    assert found["settings"][2] == "correct DEPLOYTRAIL_PARTITIONS"


def test_a_region_without_a_partition_is_named(tmp_path: Path) -> None:
    code, found = checks(tmp_path, DEPLOYTRAIL_REGION="eu-west1")

    assert code == 0
    assert found["region"][0] == "warning"
    assert found["region"][2].startswith("did you mean eu-west-1?")


def test_a_build_that_tells_too_little_is_named(tmp_path: Path) -> None:
    _, found = checks(tmp_path, GITHUB_ACTIONS="true", GITHUB_RUN_ID="7", GITHUB_REPOSITORY="shop/checkout")

    assert found["build"][:2] == ("warning", "github_actions is seen, without commit_sha, ref")


def test_the_deploy_target_is_told_and_compared_with_the_environment_that_is_set(tmp_path: Path) -> None:
    drone = {"DRONE": "true", "DRONE_DEPLOY_TO": "staging"}
    _, other = checks(tmp_path, **drone, DEPLOYTRAIL_ENVIRONMENT="production")
    _, same = checks(tmp_path, **drone, DEPLOYTRAIL_ENVIRONMENT="stg")

    assert other["target"][:2] == ("warning", "DEPLOYTRAIL_ENVIRONMENT is 'production', the build deploys to 'staging'")
    assert same["target"][:2] == ("ok", "the build deploys to 'staging'")


def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, found = checks(tmp_path, DEPLOYTRAIL_SPOOL=str(tmp_path / "file" / "spool"))

    assert code == 1
    assert found["spool"][0] == "broken"
    assert "Not a directory" in found["spool"][1]
    assert "DEPLOYTRAIL_SPOOL" in found["spool"][2]


def test_a_folder_without_leave_to_write_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o500)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write everywhere
        [found] = _doctor_host.spool(Settings(spool=folder))
    finally:
        if user == 0:
            os.seteuid(0)

    assert (found.state, found.detail) == ("broken", f"{folder} cannot be used: Permission denied")
    assert "DEPLOYTRAIL_SPOOL" in found.fix


def test_a_full_spool_and_its_losses_are_named(tmp_path: Path) -> None:
    small = {"DEPLOYTRAIL_SPOOL_MAX_BYTES": "9000"}
    for _ in range(30):
        command("start", "--justification", "x" * 500, env=environment(tmp_path / "spool", **small))
    code, found = checks(tmp_path, **small)

    assert code == 1
    assert found["spool"][1].startswith("full: ")
    assert "events found no room here" in found["spool losses"][1]
    assert found["waiting"][0] == "warning"


def test_events_that_wait_are_counted_with_their_age(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL="http://127.0.0.1:9", DEPLOYTRAIL_EXIT_WAIT_SECONDS="0")
    command("start", "--occurred-at", "2026-10-01T00:00:00Z", env=env)
    command("start", env=env)
    before = [path.read_bytes() for path in sorted((tmp_path / "spool").rglob("*.segment"))]
    _, found = checks(tmp_path, DEPLOYTRAIL_URL="http://127.0.0.1:9")

    assert found["waiting"][0] == "warning"
    assert found["waiting"][1].startswith("2 events wait, the oldest for ")
    assert found["waiting"][1].endswith(" days")
    assert [path.read_bytes() for path in sorted((tmp_path / "spool").rglob("*.segment"))] == before
    assert len(stored(tmp_path / "spool")) == 2


def test_damage_and_refusals_are_named(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    for _ in range(3):
        command("start", env=environment(spool))
    [segment] = spool.rglob("*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    _, unread = checks(tmp_path)
    [folder] = producers(spool)
    backlog = Backlog(folder)
    backlog.reject(backlog.read(9, 1 << 20)[0], "the gateway answers 422")
    _, found = checks(tmp_path)

    assert unread["spool damage"][1] == "1 stretch of the spool is no event"
    assert "damaged" not in unread
    assert found["damaged"][:2] == ("warning", f"1 damaged stretch is kept in {spool}/damaged")
    assert found["rejected"][:2] == ("warning", f"1 refused event is kept in {spool}/rejected.jsonl")


def test_kafka_that_is_away_is_named(tmp_path: Path) -> None:
    code, found = checks(tmp_path, *SOON, DEPLOYTRAIL_URL=f"kafka://127.0.0.1:{ports.free_port()}")

    assert code == 1
    assert "cannot be reached" in found["kafka"][1]


def test_kafka_without_topics_and_with_other_partitions_is_named(own_kafka: str, tmp_path: Path) -> None:
    url = f"kafka://{own_kafka}"
    none_code, none = checks(tmp_path, DEPLOYTRAIL_URL=url)
    make_topics(own_kafka)
    well, found = checks(tmp_path, DEPLOYTRAIL_URL=url)
    other_code, other = checks(tmp_path, DEPLOYTRAIL_URL=url, DEPLOYTRAIL_PARTITIONS="32")
    seen = AdminClient({"bootstrap.servers": own_kafka}).list_topics(timeout=30).topics

    assert (none_code, none["kafka"][1]) == (1, "there is no topic deploytrail.intake")
    assert (well, found["kafka"]) == (0, ("ok", "deploytrail.intake has 16 partitions, as the settings say", ""))
    assert (other_code, other["kafka"][1]) == (1, "deploytrail.intake has 16 partitions, the settings say 32")
    assert "DEPLOYTRAIL_PARTITIONS=16" in other["kafka"][2]
    assert len(seen["deploytrail.intake"].partitions) == 16
