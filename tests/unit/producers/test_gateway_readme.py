"""The gateway's README: its examples are read by what reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="the producers alone read no files of maps or issuers")

from deploytrail import csv_maps, syslog
from deploytrail.gateway import oidc_config
from deploytrail_schemas.records import RecordType

README = (Path(__file__).parents[3] / "producers/deploytrail/gateway/README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```[a-z]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NOON = 1_793_620_800_000_000


def block(beginning: str) -> str:
    [found] = [text for text in BLOCKS if text.startswith(beginning)]
    return found


def test_its_map_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "maps.yaml").write_text(block("# DEPLOYTRAIL_CSV_MAPS"), "utf-8")
    mapping = csv_maps.load(tmp_path / "maps.yaml")["legacy-deploys"]
    data = b"Nr;App;Version;Start;Status\n7;checkout;4.2.0;02.11.2026 13:00;OK\n8;checkout;4.2.1;02.11.2026 13:00;?\n"
    [line], [wrong] = csv_maps.read(mapping, data, NOON)

    value = line.value
    assert (value["deployment_id"], value["event_type"], value["occurred_at"]) == ("7", "succeeded", NOON)
    assert (value["service"], value["environment"], value["region"]) == ("checkout", "production", "eu-central-1")
    assert wrong.pointer == "/3/event_type"


def test_its_message_of_syslog_is_a_deployment() -> None:
    message = syslog.parse(block("<134>1").strip().encode())
    kind, value = syslog.record(message, "tcp", NOON) or (None, {})

    assert kind is RecordType.DEPLOYMENT_EVENT
    assert (value["deployment_id"], value["event_type"], value["occurred_at"]) == ("checkout-42", "succeeded", NOON)


def test_its_jobs_may_report_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "oidc.yaml").write_text(block("# DEPLOYTRAIL_OIDC"), "utf-8")
    oidc = oidc_config.load(tmp_path / "oidc.yaml")
    [issuer] = oidc.issuers
    main = oidc.scope_of(issuer, {"repository": "acme/checkout", "ref": "refs/heads/main"})

    assert main is not None and main.services == ("checkout",)
    assert oidc.scope_of(issuer, {"repository": "acme/checkout", "ref": "refs/heads/side"}) is None
