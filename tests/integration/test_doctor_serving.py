"""`deploytrail doctor` where a gateway or a poller runs, or permits are checked: what is amiss is named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from deploytrail_local import ports
from deploytrail_schemas.scopes import Verb
from support.credentials import add_token, relay_token, revoke_token
from support.kafka import make_topics
from support.permits import ISSUER, jwks
from support.schema_registry import basic, schema_registry
from support.spool import command, environment

OIDC = """\
audience: https://deploytrail.example.com
issuers: [{{issuer: https://token.actions.githubusercontent.com, kind: github, jwks: {keys}}}]
rules:
  - issuer: https://token.actions.githubusercontent.com
    claims: {{repository: acme/checkout}}
    scope: {{team: shop, services: [checkout], environments: [production]}}
"""
RSA_KEYS = {"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "n": "AQAB", "e": "AQAB"}]}
POLL = "sources: [{kind: github, token_env: ASKING, projects: [acme/checkout]}]\n"


def checks(tmp_path: Path, *, seconds: int = 30, **settings: str) -> dict[str, list[tuple[str, str, str]]]:
    """(state, detail, fix) of every check by what it is about; the exit status agrees with them.

    `seconds`: so long may anybody take to answer.
    """
    given = {name if name == "ASKING" else f"DEPLOYTRAIL_{name}": text for name, text in settings.items()}
    words = ("doctor", "--json", "--timeout", str(seconds))
    done = command(*words, env=environment(tmp_path / "spool", **given), cwd=tmp_path)
    found: dict[str, list[tuple[str, str, str]]] = {}
    for check in json.loads(done.stdout)["checks"]:
        found.setdefault(check["what"], []).append((check["state"], check["detail"], check["fix"]))
    every = [check for many in found.values() for check in many]

    assert done.stderr == ""
    assert done.returncode == any(state == "broken" for state, _, _ in every)
    assert all(fix or state == "ok" for state, _, fix in every)
    return found


def test_a_host_that_serves_nothing_hears_of_nothing(tmp_path: Path) -> None:
    served = {"tokens", "relay token", "webhooks", "oidc", "csv maps", "permits", "poll", "gateway spool", "signing"}

    assert not served & checks(tmp_path).keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]


def test_tokens_that_hold_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path)
    revoke_token(path, add_token(path), at=time.time_ns() // 1000)
    [well] = checks(tmp_path, CREDENTIALS=str(path))["tokens"]
    path.chmod(0o666)
    open_file, _ = checks(tmp_path, CREDENTIALS=str(path))["tokens"]
    [away] = checks(tmp_path, CREDENTIALS=str(tmp_path / "nowhere"))["tokens"]

    assert well == ("ok", "1 of 2 tokens hold", "")
    assert open_file[0] == "warning"
    assert f"chmod 600 {path}" in open_file[2]
    assert away[0] == "broken"
    assert "DEPLOYTRAIL_CREDENTIALS" in away[1]
    assert "deploytrail token create" in away[2]


def test_a_relay_token_must_be_whole_known_and_have_the_verb(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    good, other = relay_token(path), add_token(path, Verb.REPORT)
    revoked = relay_token(path)
    revoke_token(path, revoked, at=1_700_000_000_000_000)
    settings = {"CREDENTIALS": str(path)}
    found = [checks(tmp_path, **settings, RELAY_TOKEN=text) for text in (good, other, revoked, good[:-1])]
    told = [one.get("relay token", one.get("signing"))[0] for one in found]  # type: ignore[index]

    assert [state for state, _, _ in told] == ["ok", "broken", "broken", "broken"]
    assert "lacks the verb relay" in told[1][1]
    assert "revoked" in told[2][1]
    assert "DEPLOYTRAIL_RELAY_TOKEN is no token" in told[3][1]
    assert all("deploytrail token create --verb relay" in fix for _, _, fix in told[1:3])
    assert not any(text.rpartition("_")[2] in repr(found) for text in (good, other, revoked))


def test_secrets_of_webhooks_are_checked_by_name_and_scheme(tmp_path: Path) -> None:
    [well] = checks(tmp_path, WEBHOOK_SECRETS="github=correct-horse-battery;gitlab=a,b")["webhooks"]
    [wrong] = checks(tmp_path, WEBHOOK_SECRETS="githup=correct-horse-battery")["webhooks"]

    assert well == ("ok", "2 sources of webhooks are checked by their secrets", "")
    assert wrong[0] == "broken"
    assert "'githup'" in wrong[1]
    assert "horse" not in repr(wrong)


def test_issuers_are_read_and_their_keys_asked_for(tmp_path: Path) -> None:
    oidc, keys = tmp_path / "oidc.yaml", tmp_path / "keys.json"
    keys.write_text(json.dumps(RSA_KEYS))
    oidc.write_text(OIDC.format(keys=keys))
    well = checks(tmp_path, OIDC=str(oidc))
    oidc.write_text(OIDC.format(keys=f"http://127.0.0.1:{ports.free_port()}/jwks"))
    away = checks(tmp_path, OIDC=str(oidc))
    oidc.write_text("audience: x\n")
    wrong = checks(tmp_path, OIDC=str(oidc))

    assert well["oidc"] == [("ok", "1 issuer is believed", "")]
    assert well["oidc keys"] == [("ok", "1 key of https://token.actions.githubusercontent.com", "")]
    assert away["oidc keys"][0][0] == "broken"
    assert "Connection refused" in away["oidc keys"][0][1]
    assert wrong["oidc"][0][:1] == ("broken",)
    assert "issuers is missing" in wrong["oidc"][0][1]


def test_maps_of_csv_that_make_no_sense_are_named(tmp_path: Path) -> None:
    maps = tmp_path / "maps.yaml"
    maps.write_text("old: {columns: {deployment_id: Nr, event_type: Status}}\n")
    [well] = checks(tmp_path, CSV_MAPS=str(maps))["csv maps"]
    maps.write_text("old: {columns: {no_such_field: Nr}}\n")
    [wrong] = checks(tmp_path, CSV_MAPS=str(maps))["csv maps"]

    assert well == ("ok", "1 map of CSV is read", "")
    assert wrong[0] == "broken"
    assert "no_such_field" in wrong[1]
    assert str(maps) in wrong[2]


def test_whose_permits_are_believed_is_told(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks())
    settings = {"PERMIT_KEYS": str(keys), "PERMIT_ISSUER": ISSUER}
    [well] = checks(tmp_path, **settings)["permits"]
    [unset] = checks(tmp_path, PERMIT_KEYS=str(keys))["permits"]
    [away] = checks(tmp_path, **settings | {"PERMIT_KEYS": f"http://127.0.0.1:{ports.free_port()}/keys"})["permits"]

    assert well == ("ok", f"permits of {ISSUER!r} for 'deploytrail' can be checked", "")
    assert unset[0] == away[0] == "broken"
    assert "DEPLOYTRAIL_PERMIT_ISSUER" in unset[1]
    assert "cannot be fetched" in away[1]


def test_what_a_poller_needs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "poll.yaml"
    path.write_text(POLL)
    settings = {"POLL": str(path), "POLL_STATE": str(tmp_path / "state" / "poll.json")}
    well = checks(tmp_path, **settings, ASKING="its-token")["poll"]
    without = checks(tmp_path, **settings)["poll"]
    (tmp_path / "file").touch()
    stuck = checks(tmp_path, **settings | {"POLL_STATE": str(tmp_path / "file" / "poll.json")}, ASKING="x")["poll"]
    path.write_text("sources: [{kind: gitbub}]\n")
    wrong = checks(tmp_path, **settings)["poll"]

    assert well == [("ok", "1 source is asked for what webhooks missed", "")]
    assert without[1] == (
        "broken",
        "github:api.github.com needs ASKING, which is empty",
        "set ASKING to the API's token",
    )
    assert stuck[1][0] == "broken"
    assert "DEPLOYTRAIL_POLL_STATE" in stuck[1][2]
    assert wrong[0][0] == "broken"
    assert "'gitbub'" in wrong[0][1]


def test_the_gateways_spool_is_weighed(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    settings = {"GATEWAY_SPOOL": str(folder), "GATEWAY_SPOOL_MAX_BYTES": "4096"}
    [empty] = checks(tmp_path, **settings)["gateway spool"]
    (folder / "one").mkdir()
    (folder / "one" / "1.segment").write_bytes(b"x" * 4000)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "one-1.bin").touch()
    full, damaged = checks(tmp_path, **settings)["gateway spool"]
    [stuck] = checks(tmp_path, **settings | {"GATEWAY_SPOOL": str(folder / "one" / "1.segment")})["gateway spool"]

    assert empty == ("ok", f"{folder} holds 0 bytes of 4.0 KiB", "")
    assert full[0] == "broken"
    assert full[1].endswith("3.9 KiB of 4.0 KiB: what comes while Kafka is away is answered 503")
    assert "DEPLOYTRAIL_GATEWAY_SPOOL_MAX_BYTES" in full[2]
    assert damaged[0] == "warning"
    assert stuck[0] == "broken"
    assert "DEPLOYTRAIL_GATEWAY_SPOOL" in stuck[2]


def test_a_schema_registry_is_asked_and_nothing_is_registered(tmp_path: Path) -> None:
    with schema_registry() as registry:
        [fresh] = checks(tmp_path, SCHEMA_REGISTRY=registry.url)["schema registry"]
        registry.auth = basic("writer", "open-sesame")
        [refused] = checks(tmp_path, SCHEMA_REGISTRY=registry.url, SCHEMA_REGISTRY_AUTH="writer:guess")[
            "schema registry"
        ]
        subjects = dict(registry.subjects)
    [away] = checks(tmp_path, SCHEMA_REGISTRY=registry.url)["schema registry"]

    assert fresh[0] == "ok"
    assert "the first event registers its schema" in fresh[1]
    assert refused[0] == away[0] == "broken"
    assert "401" in refused[1]
    assert "DEPLOYTRAIL_SCHEMA_REGISTRY_AUTH" in refused[2]
    assert subjects == {}


@pytest.mark.parametrize("token", ["", "dtk_cut_short"])
def test_who_signs_events_to_kafka_is_told(tmp_path: Path, token: str) -> None:
    [found] = checks(tmp_path, seconds=2, URL=f"kafka://127.0.0.1:{ports.free_port()}", TOKEN=token)["signing"]

    assert found[0] == ("broken" if token else "ok")
    assert "DEPLOYTRAIL_TOKEN" in found[1]


def test_the_kafka_behind_a_gateway_is_asked(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    [away] = checks(tmp_path, seconds=2, KAFKA=f"127.0.0.1:{ports.free_port()}")["kafka"]
    well = checks(tmp_path, KAFKA=own_kafka)["kafka"]

    assert away[0] == "broken"
    assert [state for state, _, _ in well] == ["ok", "ok"]


def test_reporting_hosts_pay_for_none_of_it(tmp_path: Path) -> None:
    """What only servers need is imported only where a setting asks for it."""
    done = command("doctor", env=environment(tmp_path / "spool") | {"PYTHONPROFILEIMPORTTIME": "1"})

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert done.returncode == 0
    assert "deploytrail._doctor_serving" in imported
    assert not imported & {"starlette", "yaml", "jwt", "cryptography"}
