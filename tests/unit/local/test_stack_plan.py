"""Settings become the environment of children, and come back the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from deploytrail_local.gate_key import ensure_gate_key
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_local.log_keys import ensure_log_keys
from deploytrail_local.stack import recordable
from deploytrail_local.stack_plan import (
    APPS,
    PROCESSES,
    effective_settings,
    environment_of,
    pinned_names,
    stages_of,
    without_settings,
)
from deploytrail_local.stack_ports import NAMES
from deploytrail_processors.processor_command import NAMES as NAMES_OF_PROCESSORS
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.archive.log.notes import read_signer
from deploytrail_sinks.archive.log.trust import read_trust

HOME = Path("/srv/shop/.deploytrail")
PORTS = {name: 20_000 + number for number, name in enumerate(NAMES)}


def test_environment_gives_the_settings_back() -> None:
    settings = Settings(kafka="127.0.0.1:1", tick_seconds=0.5, state=Path("/s"), oncall_url="http://127.0.0.1:2/x")

    assert Settings.load(environment_of(settings)) == settings


def test_environment_holds_only_what_differs() -> None:
    assert environment_of(Settings(gateway_port=9)) == {"DEPLOYTRAIL_GATEWAY_PORT": "9"}


def test_variables_that_are_set_are_known() -> None:
    environ = {"DEPLOYTRAIL_KAFKA": "127.0.0.1:9092", "DEPLOYTRAIL_URL": "", "HOME": "/root"}

    assert pinned_names(environ) == {"kafka"}


def test_children_see_no_settings_of_the_caller() -> None:
    assert without_settings({"DEPLOYTRAIL_KAFKA": "prod:9092", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_clients_get_real_ports_and_absolute_folders() -> None:
    found = effective_settings(HOME, Settings(), PORTS)

    assert (found.kafka, found.clickhouse_url) == ("127.0.0.1:20000", "http://127.0.0.1:20002")
    assert (found.gateway_port, found.url) == (20003, "http://127.0.0.1:20003")
    assert (found.archive, found.state) == (f"file:{HOME}/archive", HOME / "state")


def test_the_gate_of_the_stack_is_the_one_that_clients_ask_whatever_gate_was_set() -> None:
    found = effective_settings(HOME, Settings(gate_url="https://gate.shop.example"), PORTS)

    assert (found.gate_port, found.gate_url) == (20004, "http://127.0.0.1:20004")
    assert (found.gate_keys, found.permit_issuer) == (f"{HOME}/gate-keys", "deploytrail-local")
    assert found.permit_keys == "http://127.0.0.1:20004/v1/keys"
    own = effective_settings(HOME, Settings(gate_keys="/etc/keys", permit_issuer="https://gate.shop.example"), PORTS)
    assert (own.gate_keys, own.permit_issuer) == ("/etc/keys", "https://gate.shop.example")


def test_a_key_is_made_once_for_its_owner_alone_and_signs(tmp_path: Path) -> None:
    ensure_gate_key(tmp_path / "keys")
    [made] = (tmp_path / "keys").iterdir()
    text = made.read_bytes()
    ensure_gate_key(tmp_path / "keys")
    key = load_pem_private_key(text, None)

    assert (made.name, made.stat().st_mode & 0o777, made.read_bytes()) == ("first.pem", 0o600, text)
    assert isinstance(key, Ed25519PrivateKey)
    ensure_gate_key(tmp_path / "others")
    assert (tmp_path / "others" / "first.pem").read_bytes() != text


def test_the_log_of_the_stacks_own_archive_has_keys_and_memory_in_its_folder() -> None:
    found = effective_settings(HOME, Settings(), PORTS)

    assert found.archive_sequencer_key == f"{HOME}/archive-keys/sequencer.key"
    assert found.archive_signer_keys == f"{HOME}/archive-keys/signer.key"
    assert (found.archive_trust, found.archive_signer_folder) == (f"{HOME}/archive.trust", HOME / "archive-signer")


def test_a_log_of_somebodys_own_keys_or_in_somebodys_own_archive_gets_no_other_keys() -> None:
    own = Settings(archive_sequencer_key="/k/s", archive_signer_keys="/k/l", archive_trust="/k/trust")
    elsewhere = effective_settings(HOME, Settings(archive="s3://records"), PORTS)
    found = effective_settings(HOME, own, PORTS)
    witnessed = effective_settings(HOME, Settings(archive_trust="/k/trust"), PORTS)

    assert (elsewhere.archive_sequencer_key, elsewhere.archive_signer_keys, elsewhere.archive_trust) == ("", "", "")
    assert (found.archive_sequencer_key, found.archive_signer_keys, found.archive_trust) == ("/k/s", "/k/l", "/k/trust")
    assert (witnessed.archive_signer_keys, witnessed.archive_trust) == (f"{HOME}/archive-keys/signer.key", "/k/trust")


def test_keys_of_the_log_are_made_once_and_outsiders_are_told_whom_to_trust(tmp_path: Path) -> None:
    settings = effective_settings(tmp_path, Settings(), PORTS)
    half = tmp_path / "archive-keys.new"  # of a start that was killed
    half.mkdir()
    (half / "signer.key").touch()
    ensure_log_keys(tmp_path, settings, os.environ)
    made = {path.name: path.read_text() for path in (tmp_path / "archive-keys").iterdir()}
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "archive-keys").glob("*.key")}
    trust = read_trust((tmp_path / "archive.trust").read_text())
    signer, sequencer = (read_signer(made[f"{name}.key"]).verifier for name in ("signer", "sequencer"))

    assert modes == {"sequencer.key": 0o600, "signer.key": 0o600}
    assert (tmp_path / "archive-keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "archive.trust").stat().st_mode & 0o777 == 0o644
    assert (trust.logs, trust.sequencers, trust.quorum) == ([signer], [sequencer], "none")
    assert (signer.name, sequencer.name) == (settings.archive_origin, f"{settings.archive_origin}/sequencer")
    assert signer.public != sequencer.public
    assert "PRIVATE" not in (tmp_path / "archive.trust").read_text()

    (tmp_path / "archive.trust").unlink()
    ensure_log_keys(tmp_path, settings, os.environ)
    assert {path.name: path.read_text() for path in (tmp_path / "archive-keys").iterdir()} == made
    assert read_trust((tmp_path / "archive.trust").read_text()) == trust


def test_each_key_of_the_log_is_told_to_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KafkaBroker, "command", lambda _: ["kafka"])
    settings = effective_settings(tmp_path, Settings(), PORTS)
    programs = {child.name: child for stage in stages_of(settings, PORTS, print) for child in stage.children}
    told = {
        key: [name for name, child in programs.items() if f"archive-keys/{key}.key" in str(child.env)]
        for key in ("sequencer", "signer")
    }
    elsewhere = effective_settings(tmp_path, Settings(archive="s3://records"), PORTS)
    others = {child.name for stage in stages_of(elsewhere, PORTS, print) for child in stage.children}

    stages_of(effective_settings(tmp_path / "bare", Settings(), PORTS), PORTS, print, only=())

    assert told == {"sequencer": ["archive-sequence"], "signer": ["archive-sign"]}
    assert not (tmp_path / "bare/archive-keys").exists()  # whom nobody starts needs none
    assert programs["archive-sign"].argv[-2:] == ["archive", "sign"]
    assert {*programs} - others == {"archive-sequence", "archive-sign"}


def test_folders_that_were_set_are_kept() -> None:
    found = effective_settings(HOME, Settings(archive="file:/mnt/worm", state=Path("/var/state")), PORTS)

    assert (found.archive, found.state) == ("file:/mnt/worm", Path("/var/state"))


def test_no_secret_is_recorded() -> None:
    settings = Settings(token="t", clickhouse_password="p", webhook_secrets="github=s")

    assert recordable(settings) == {}


def test_every_processor_runs_in_one_process_of_the_stack() -> None:
    running = [name for names in PROCESSES.values() for name in names]

    # One cluster has no others to federate with.
    assert sorted(running) == sorted({*NAMES_OF_PROCESSORS} - {"federation"})
    assert {*PROCESSES} < {*APPS}
    assert {f"{name}-metrics" for name in PROCESSES} < {*NAMES}
