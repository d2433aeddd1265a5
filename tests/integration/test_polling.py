"""Pollers against servers that answer as the APIs do: what webhooks missed arrives, once, at little cost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters, poll_command
from deploytrail.adapters.base import Defaults
from deploytrail.polling.api import LONGEST_QUIET, Api, NotThere, SlowDown
from deploytrail.polling.config import KINDS, Watched
from deploytrail.polling.memory import Memory
from deploytrail.polling.rounds import Outcome, Record, one_round
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.records import RecordType
from support import forges
from support.forges import TOKEN, Forge, serving, stamp

NOW = 1_793_620_800.0  # 2026-11-02T12:00:00Z
REPOSITORY = {"name": "shop", "full_name": "acme/shop"}


class Published:
    """Where records go; `away` plays a Kafka that does not answer."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.away = False

    async def __call__(self, reporter: str, records: Sequence[Record]) -> None:
        assert reporter.startswith("poll:")
        if self.away:
            raise RetryLater("Kafka does not answer")
        self.records += records

    @property
    def ids(self) -> list[str]:
        return [value[kind.id_field] for kind, value in self.records]


class Poller:
    """A poller over one forge, with a memory on disk."""

    def __init__(self, forge: Forge, kind: str, project: str, folder: Path, **watched: Any) -> None:
        self.watched = Watched(kind, forge.url, "TOKEN", (project,), settle=0.0, **watched)
        self.file, self.project, self.published = folder / "poll.json", project, Published()
        self.restart()

    def restart(self) -> None:
        token = f"bot:{TOKEN}" if self.watched.kind == "jenkins" else TOKEN
        self.api = poll_command.api_of(self.watched, {"TOKEN": token})
        self.memory = Memory(self.file)

    def round(self, at: float = NOW) -> Outcome:
        poll = poll_command.POLLS[self.watched.kind].poll
        return asyncio.run(
            one_round(self.api, self.watched, self.project, poll, self.memory, self.published, now=int(at * 1e6))
        )


def deployment(number: int, created: float, forge_url: str = "https://api.github.com") -> dict[str, Any]:
    return {
        "id": number,
        "url": f"{forge_url}/repos/acme/shop/deployments/{number}",
        "sha": "a" * 40,
        "ref": "v4.2.0",
        "task": "deploy",
        "payload": {},
        "environment": "production",
        "description": None,
        "creator": {"login": "octocat", "type": "User"},
        "created_at": stamp(created),
        "updated_at": stamp(created),
    }


def status(number: int, state: str, created: float) -> dict[str, Any]:
    return {"id": number, "state": state, "created_at": stamp(created), "environment": "production", "log_url": ""}


def of_webhook(event: str, payload: dict[str, Any]) -> str:
    found = adapters.load("github").adapt(payload, {"x-github-event": event}, Defaults(), int(NOW * 1e6))
    ((kind, value),) = found.records
    return str(value[kind.id_field])


@pytest.mark.requirement("M2.3")
def test_a_polled_record_has_the_id_that_its_webhook_gives(tmp_path: Path) -> None:
    made = deployment(1, NOW - 300)
    states = [status(10, "in_progress", NOW - 290), status(11, "success", NOW - 200)]
    with serving(forges.github([made], {1: states})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.round()
    common = {"action": "created", "deployment": made, "repository": REPOSITORY}

    assert poller.published.ids == [
        of_webhook("deployment", common),
        of_webhook("deployment_status", common | {"deployment_status": states[0]}),
        of_webhook("deployment_status", common | {"deployment_status": states[1]}),
    ]
    assert [value["event_type"] for _, value in poller.published.records] == ["queued", "started", "succeeded"]


def test_what_was_published_is_not_published_again_also_after_a_restart(tmp_path: Path) -> None:
    with serving(forges.github([deployment(1, NOW - 300)], {1: [status(10, "success", NOW - 200)]})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        first = poller.round()
        second = poller.round(NOW + 60)
        poller.restart()
        third = poller.round(NOW + 120)

    assert (first.published, second.published, third.published) == (2, 0, 0)
    assert len(poller.published.ids) == 2


def test_an_unchanged_list_costs_none_of_the_granted_requests(tmp_path: Path) -> None:
    with serving(forges.github([deployment(1, NOW - 300)], {1: [status(10, "success", NOW - 200)]})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.round()
        granted = forge.limit
        poller.round(NOW + 60)

    assert forge.limit == granted
    assert forge.statuses()[-2:] == [304, 304]


def test_every_page_is_read_until_it_is_older_than_what_is_wanted(tmp_path: Path) -> None:
    made = [deployment(n, NOW - 60 * n) for n in range(1, 351)]
    with serving(forges.github(made, {})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path, lookback=60 * 220.5)
        poller.round()

    assert len(poller.published.ids) == 220
    assert [path for path, _ in forge.asked if "page=4" in path] == []


def test_something_unfinished_is_asked_for_until_it_ends_however_old(tmp_path: Path) -> None:
    statuses = {1: [status(10, "waiting", NOW - 80_000)]}
    with serving(forges.github([deployment(1, NOW - 80_000)], statuses)) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.round()
        statuses[1].append(status(11, "success", NOW + 5 * 86_400))
        late = poller.round(NOW + 5 * 86_400 + 60)
        poller.round(NOW + 5 * 86_400 + 120)
        asked = len(forge.statuses("/deployments/1/statuses"))
        poller.round(NOW + 5 * 86_400 + 180)

    assert late.published == 1
    assert poller.published.records[-1][1]["event_type"] == "succeeded"
    assert len(forge.statuses("/deployments/1/statuses")) == asked


def test_a_webhook_has_time_to_come_first(tmp_path: Path) -> None:
    with serving(forges.github([deployment(1, NOW - 300)], {1: [status(10, "success", NOW - 5)]})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.watched = replace(poller.watched, settle=30.0)
        first = poller.round()
        second = poller.round(NOW + 3000)

    assert (first.published, second.published) == (1, 1)


def test_what_kafka_did_not_take_is_published_by_a_later_round(tmp_path: Path) -> None:
    with serving(forges.github([deployment(1, NOW - 300)], {})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.published.away = True
        with pytest.raises(RetryLater):
            poller.round()
        poller.published.away = False
        poller.restart()
        later = poller.round(NOW + 4000)

    assert later.published == 1


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ((500, {}), RetryLater),
        ((502, {}), RetryLater),
        ((429, {}), SlowDown),
        ((429, {"Retry-After": "7"}), SlowDown),
        ((403, {"Retry-After": "7"}), SlowDown),
        ((301, {"Location": "https://elsewhere.example.com/"}), ConfigurationError),
        ((403, {}), ConfigurationError),
        ((404, {}), NotThere),
    ],
)
def test_trouble_is_told_by_what_can_be_done(trouble: tuple[int, dict[str, str]], expected: type[Exception]) -> None:
    with serving(forges.github([], {})) as forge:
        forge.trouble = [trouble]
        with pytest.raises(expected):
            Api(forge.url, {}).get("repos/acme/shop/deployments")


def test_a_wrong_token_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with serving(forges.github([], {})) as forge, pytest.raises(ConfigurationError, match="answers 401") as refused:
        Api(forge.url, {"Authorization": "Bearer wrong-token"}).get("repos/acme/shop/deployments")

    assert "wrong-token" not in str(refused.value)


def test_the_last_granted_request_is_followed_by_none_until_the_limit_is_renewed() -> None:
    clock = [NOW]
    with serving(forges.github([], {})) as forge:
        api = Api(forge.url, {"Authorization": f"Bearer {TOKEN}"}, clock=lambda: clock[0])
        forge.limit, forge.reset_in, forge.clock = 1, 100.0, lambda: NOW
        api.get("repos/acme/shop/deployments")
        with pytest.raises(SlowDown) as told:
            api.get("repos/acme/search/deployments")
        clock[0] = told.value.until
        forge.limit = 10
        api.get("repos/acme/search/deployments")

    assert forge.statuses() == [200, 200]
    assert told.value.until == NOW + 101


def test_a_token_goes_to_no_other_host() -> None:
    with serving(forges.github([], {})) as forge:
        forge.trouble = [(200, {"Link": '<https://evil.example.com/next>; rel="next"'})]
        with pytest.raises(RetryLater, match=r"evil\.example\.com"):
            list(Api(forge.url, {"Authorization": "Bearer x"}).pages("repos/acme/shop/deployments"))


def test_a_deployment_that_was_deleted_meanwhile_stops_nothing(tmp_path: Path) -> None:
    made = [deployment(1, NOW - 50_000)]
    with serving(forges.github(made, {})) as forge:
        poller = Poller(forge, "github", "acme/shop", tmp_path)
        poller.round()
        made[:] = [deployment(2, NOW + 5000)]
        later = poller.round(NOW + 5100)

    assert later.published == 1
    assert list(later.open) == ["2"]


def test_a_memory_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "poll.json"
    file.write_text('{"version": 1, "projects": {"github:x acme/shop": {"reached"')

    with pytest.raises(ConfigurationError, match="move it away"):
        Memory(file)
    assert file.read_text().endswith('{"reached"')


PROJECT = {
    "id": 7,
    "name": "shop",
    "web_url": "https://gitlab.example.com/acme/shop",
    "path_with_namespace": "acme/shop",
}


def of_gitlab(number: int, status: str, began: float, ended: float | None) -> dict[str, Any]:
    job = {"id": 100 + number, "status": status, "started_at": stamp(began), "finished_at": ended and stamp(ended)}
    return {
        "id": number,
        "ref": "main",
        "sha": "b" * 40,
        "status": status,
        "updated_at": stamp(ended or began),
        "environment": {"name": "production", "tier": "production"},
        "user": {"id": 3, "name": "Ann", "username": "ann"},
        "deployable": job,
    }


@pytest.mark.requirement("M2.3")
def test_gitlab_tells_the_state_of_now_and_its_job_what_was_before(tmp_path: Path) -> None:
    made = [of_gitlab(1, "running", NOW - 300, None), of_gitlab(2, "failed", NOW - 200, NOW - 100)]
    webhook = {
        "object_kind": "deployment",
        "status": "running",
        "status_changed_at": "2026-11-02 11:55:00 +0000",
        "deployment_id": 1,
        "deployable_id": 101,
        "environment": "production",
        "project": PROJECT,
        "ref": "main",
        "user": {"username": "ann"},
    }
    ((_kind, first),) = adapters.load("gitlab").adapt(webhook, {}, Defaults(), int(NOW * 1e6)).records
    with serving(forges.gitlab(PROJECT, made)) as forge:
        poller = Poller(forge, "gitlab", "acme/shop", tmp_path)
        poller.round()
        made[0] = of_gitlab(1, "success", NOW - 300, NOW + 30)
        later = poller.round(NOW + 60)
    told = [
        (v["deployment_id"][-3:], v["event_type"], v["occurred_at"] / 1e6 - NOW) for _, v in poller.published.records
    ]

    assert told == [
        ("101", "started", -300),
        ("102", "started", -200),
        ("102", "failed", -100),
        ("101", "succeeded", 30),
    ]
    assert later.published == 1
    assert poller.published.records[0][1] == first | {
        name: poller.published.records[0][1][name] for name in ("commit_sha", "build_url", "tags")
    }


def build(number: int, began: float, result: str | None, seconds: float) -> dict[str, Any]:
    return {
        "number": number,
        "url": f"https://ci.example.com/job/deploy/job/shop/{number}/",
        "result": result,
        "building": result is None,
        "timestamp": int(began * 1000),
        "duration": int(seconds * 1000),
        "queueId": 40 + number,
        "actions": [
            {"parameters": [{"name": "ENVIRONMENT", "value": "production"}, {"name": "VERSION", "value": "4.2.0"}]},
            {"causes": [{"userId": "ann"}]},
            {},
            {
                "lastBuiltRevision": {"SHA1": "c" * 40, "branch": [{"name": "refs/remotes/origin/main"}]},
                "remoteUrls": ["u"],
            },
        ],
    }


def test_jenkins_builds_are_told_as_its_notifications_would(tmp_path: Path) -> None:
    builds = [build(2, NOW - 100, None, 0), build(1, NOW - 600, "FAILURE", 240), build(0, NOW - 90_000, "SUCCESS", 1)]
    job = {
        "name": "shop",
        "fullName": "deploy/shop",
        "url": "https://ci.example.com/job/deploy/job/shop/",
        "builds": builds,
    }
    with serving(forges.jenkins(job)) as forge:
        poller = Poller(forge, "jenkins", "deploy/shop", tmp_path)
        poller.round()
        job["builds"] = [build(2, NOW - 100, "ABORTED", 5000)]
        poller.round(NOW + 6000)
    told = [(v["build_number"], v["event_type"], v["occurred_at"] / 1e6 - NOW) for _, v in poller.published.records]
    value = poller.published.records[0][1]

    assert told == [("2", "started", -100), ("1", "started", -600), ("1", "failed", -360), ("2", "cancelled", 4900)]
    assert (value["version"], value["commit_sha"], value["ref"], value["deployer"]) == (
        "4.2.0",
        "c" * 40,
        "main",
        "ann",
    )


def application(*syncs: tuple[float, float, str], phase: str = "Succeeded", health: str = "Healthy") -> dict[str, Any]:
    """An application after syncs (begun, ended, revision), the last of which is in `phase`."""
    history = [
        {"id": n, "deployStartedAt": stamp(b), "deployedAt": stamp(e), "revision": revision}
        for n, (b, e, revision) in enumerate(syncs)
    ]
    begun, ended, revision = syncs[-1]
    operation = {
        "phase": phase,
        "startedAt": stamp(begun),
        "operation": {"initiatedBy": {"username": "ann"}, "sync": {"revision": revision}},
        "syncResult": {"revision": revision, "source": {"repoURL": "https://git.example.com/acme/shop"}},
    }
    if phase != "Running":
        operation["finishedAt"] = stamp(ended)
    return {
        "metadata": {"name": "shop", "namespace": "argocd", "uid": "6b1c"},
        "spec": {"destination": {"namespace": "production"}},
        "status": {
            "operationState": operation,
            "health": {"status": health, "lastTransitionTime": stamp(ended)},
            "history": history if phase == "Succeeded" else history[:-1],
        },
    }


@pytest.mark.requirement("M2.3")
def test_argo_cd_is_asked_for_the_latest_sync_and_its_history_for_those_before(tmp_path: Path) -> None:
    first, second, third = (
        (NOW - 900, NOW - 800, "a1" * 20),
        (NOW - 500, NOW - 450, "b2" * 20),
        (NOW - 60, NOW - 40, "c3" * 20),
    )
    applications = [application(first)]
    with serving(forges.argocd(applications)) as forge:
        poller = Poller(forge, "argocd", "*", tmp_path)
        poller.round(NOW - 700)
        applications[0] = application(first, second, third, phase="Running")
        poller.round(NOW - 50)
        applications[0] = application(first, second, third)
        poller.round(NOW)
        again = poller.round(NOW + 60)
    webhook = {"app": application(first, second, third), "context": {"argocdUrl": forge.url}}
    by_webhook = adapters.load("argocd").adapt(webhook, {}, Defaults(), int(NOW * 1e6)).records
    told = [
        (v["commit_sha"][:2], v["event_type"], round(v["occurred_at"] / 1e6 - NOW))
        for kind, v in poller.published.records
        if kind is RecordType.DEPLOYMENT_EVENT
    ]

    assert told == [
        ("a1", "started", -900),
        ("a1", "succeeded", -800),
        ("b2", "started", -500),
        ("b2", "succeeded", -450),
        ("c3", "started", -60),
        ("c3", "succeeded", -40),
    ]
    assert {value[kind.id_field] for kind, value in by_webhook} <= set(poller.published.ids)
    assert again.published == 0


def test_every_api_that_is_polled_has_an_adapter_that_reads_it() -> None:
    assert set(poll_command.POLLS) == set(KINDS)
    assert set(poll_command.POLLS) <= set(adapters.names())


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    """A server that answers each request with the next of these, then with the last again."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, text in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


HOSTILE: dict[str, tuple[int, dict[str, str], bytes]] = {
    "nested without end": (200, {}, b"[" * 200_000),
    "a number without end": (200, {}, b"9" * 5000),
    "no UTF-8": (200, {}, b"\xff\xfe\x00"),
    "no list": (200, {}, b'{"message": "no"}'),
    "a list of anything": (200, {}, b'[null, 1, "x", [], {"id": {}}, NaN]'),
    "a next page that is no URL": (200, {"Link": "<http://[>; rel=next"}, b"[]"),
    "a wait without end": (429, {"Retry-After": "9" * 400}, b""),
    "a wait that is no time": (429, {"Retry-After": "Thu, 99 Foo 99999 25:61:61 XYZ"}, b""),
    "a limit without end": (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 400}, b""),
    "not modified, unasked": (304, {"ETag": "x"}, b""),
}


@pytest.mark.requirement("M2.3")
@pytest.mark.parametrize("kind", ["github", "gitlab", "jenkins", "argocd"])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_no_answer_ends_the_polling(kind: str, answer: tuple[int, dict[str, str], bytes], tmp_path: Path) -> None:
    """A round says when to ask again, within hours; whatever it raised would end the asking for good, unseen."""
    with answering(answer) as url:
        watched = Watched(kind, url, "", ("acme/shop",), settle=0.0)
        published = Published()
        until = asyncio.run(poll_command.round_of(Api(url, {}), watched, Memory(tmp_path / "poll.json"), published))

    assert until is None or until <= time.time() + LONGEST_QUIET
    assert published.records == []


def test_half_a_character_in_a_name_does_not_keep_others_from_being_published(tmp_path: Path) -> None:
    made = deployment(1, NOW - 300) | {"environment": "\ud83d production"}
    with answering((200, {}, json.dumps([made]).encode()), (200, {}, b"[]")) as url:
        poller = Poller(Forge([], ("", ""), url), "github", "acme/shop", tmp_path)
        poller.round()

    assert [encode(kind, value) != b"" for kind, value in poller.published.records] == [True]
    assert poller.published.records[0][1]["environment"] == "? production"
