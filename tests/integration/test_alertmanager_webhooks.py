"""A real Alertmanager: what it sends of an alert and of our own page, straight and by way of PagerDuty and Opsgenie."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Defaults
from deploytrail_local import ports
from deploytrail_schemas.instants import format_instant
from deploytrail_sinks.on_call.incidents import Action
from deploytrail_sinks.on_call.ledger import Incident, Status
from deploytrail_sinks.on_call.senders import Alertmanager
from support.alertmanager import alertmanager as real_alertmanager
from support.kafka import wait_for

PLACE = {"service": "checkout", "environment": "production", "region": "eu-west-1"}
CONFIG = """
route: {{receiver: all, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1s}}
receivers:
  - name: all
    webhook_configs: [{{url: "{url}/webhook", send_resolved: true}}]
    pagerduty_configs: [{{routing_key: none, url: "{url}/pagerduty"}}]
    opsgenie_configs: [{{api_key: none, api_url: "{url}/opsgenie/"}}]
"""


class Receiver:
    """Takes everything that is posted, by its path."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append((self.path, body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
        self.url = f"http://{ports.LOOPBACK}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in list(self.bodies) if where.startswith(path)]

    def signals(self, alertname: str) -> list[dict[str, Any]]:
        """What our adapter makes of the webhooks that tell of this alert."""
        load = adapters.load("alertmanager")
        found = [value for b in self.of("/webhook") for _, value in load.adapt(b, {}, Defaults(), 0).records]
        return [value for value in found if value["title"] == alertname]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def alertmanager(receiver: Receiver, tmp_path: Path) -> Iterator[str]:
    with real_alertmanager(tmp_path, CONFIG.format(url=receiver.url)) as url:
        yield url


def post(alertmanager: str, started: int, ended: int | None = None) -> None:
    """The alert HighErrorRate, as Prometheus sends it."""
    alert = {
        "labels": {"alertname": "HighErrorRate", "severity": "critical", **PLACE},
        "annotations": {"summary": "5 % of requests fail"},
        "startsAt": format_instant(started),
        **({"endsAt": format_instant(ended)} if ended else {}),
    }
    request = urllib.request.Request(
        f"{alertmanager}/api/v2/alerts",
        json.dumps([alert]).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.requirement("M7.5", "M4.3")
def test_an_alert_is_one_signal_however_often_it_is_notified_and_one_when_it_ends(
    alertmanager: str, receiver: Receiver
) -> None:
    began = time.time_ns() // 1000 - 60_000_000
    post(alertmanager, began)
    wait_for(lambda: len(receiver.signals("HighErrorRate")) >= 2, what="the alert, notified twice")
    post(alertmanager, began, time.time_ns() // 1000)
    wait_for(lambda: receiver.signals("HighErrorRate")[-1]["signal_type"] == "alert_resolved", what="its end")
    told = receiver.signals("HighErrorRate")

    assert {(s["signal_type"], s["source"], s["severity"]) for s in told} == {
        ("alert_firing", "alertmanager", "critical"),
        ("alert_resolved", "alertmanager", "critical"),
    }
    assert len({signal["signal_id"] for signal in told}) == 2
    assert len({signal["fingerprint"] for signal in told}) == 1
    assert {signal["started_at"] for signal in told} == {began}
    assert told[-1]["ended_at"] > began
    assert all(told[0][name] == value for name, value in PLACE.items())


@pytest.mark.requirement("M4.3")
def test_our_own_page_is_known_when_it_comes_back_whichever_way_it_took(alertmanager: str, receiver: Receiver) -> None:
    now = time.time_ns() // 1000
    incident = Incident(
        "overdue/checkout-42", Status.INTENDED, Action.TRIGGER, now, "error", "checkout is overdue", PLACE
    )
    Alertmanager(alertmanager).send(incident, now)
    wait_for(lambda: bool(receiver.signals("DeploytrailOverdue")), what="the webhook")
    wait_for(lambda: bool(receiver.of("/pagerduty")), what="PagerDuty's event")
    wait_for(lambda: bool(receiver.of("/opsgenie")), what="Opsgenie's alert")
    event, alert = receiver.of("/pagerduty")[0], receiver.of("/opsgenie")[0]

    assert {signal["source"] for signal in receiver.signals("DeploytrailOverdue")} == {"deploytrail"}
    # What PagerDuty and Opsgenie then tell of it: the summary is the title, the details stay details.
    paged = {"id": "P1", "title": event["payload"]["summary"], "incident_key": event["dedup_key"]}
    opened = {"event": {"event_type": "incident.triggered", "data": paged}}
    created = {"action": "Create", "alert": {"alertId": "1", "message": alert["message"], "details": alert["details"]}}
    for name, payload in (("pagerduty", opened), ("opsgenie", created)):
        [(_, signal)] = adapters.load(name).adapt(payload, {}, Defaults(), now).records
        assert signal["source"] == "deploytrail", name
