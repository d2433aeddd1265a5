"""What applying policy files would change, what is refused, and what the files mean in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_processors.policy_changes import Plan, difference, missing, plan
from deploytrail_processors.policy_command import EXIT_INVALID, main
from deploytrail_processors.policy_files import read_files
from deploytrail_processors.rules.policies import Policies, PolicySet, read_document
from deploytrail_processors.rules.policies.words import in_words
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.pseudonyms import NameMap

NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z


def planned(tmp_path: Path, text: str, standing: PolicySet | None = None) -> Plan:
    (tmp_path / "shop.yaml").write_text(text)
    sources, problems = read_files([tmp_path / "shop.yaml"])
    assert problems == []
    return plan(sources, standing or PolicySet(), now=NOON)


def applied(*documents: dict[str, object]) -> PolicySet:
    return PolicySet().with_documents(map(read_document, documents))


def shop(version: int, since: str, **spec: object) -> dict[str, object]:
    return {"kind": "service", "name": "shop", "version": version, "effective_from": since, "spec": spec}


OWNED = "kind: service\nname: shop\nspec: {team: web, tier: 1}\n"


def test_a_new_document_holds_from_now(tmp_path: Path) -> None:
    [change] = planned(tmp_path, OWNED).changes

    assert (change.key, change.effective_from, change.before) == ("service/shop/1", NOON, None)
    assert change.value["effective_from"] == "2026-11-02T12:00:00.000000Z"


def test_what_is_applied_already_is_no_change(tmp_path: Path) -> None:
    standing = applied(shop(3, "2026-01-01T00:00:00Z", team="web", tier=1))

    assert planned(tmp_path, OWNED, standing) == Plan(())
    # One that states the version that stands is the file that was applied.
    assert planned(tmp_path, OWNED + "version: 3\n", standing) == Plan(())


def test_a_change_is_shown_line_by_line_and_gets_the_next_version(tmp_path: Path) -> None:
    standing = applied(shop(3, "2026-01-01T00:00:00Z", team="old", tier=1))
    found = planned(tmp_path, OWNED, standing)
    [change] = found.changes

    assert (found.conflicts, found.warnings) == ((), ())
    assert difference(change).splitlines() == [
        "--- service/shop/3",
        f"+++ service/shop/4  ({tmp_path / 'shop.yaml'}:1)",
        "@@ -1,4 +1,4 @@",
        "-effective_from: '2026-01-01T00:00:00.000000Z'",
        "+effective_from: '2026-11-02T12:00:00.000000Z'",
        " spec:",
        "-  team: old",
        "+  team: web",
        "   tier: 1",
    ]


@pytest.mark.parametrize("stated", [1, 3])
def test_a_stated_version_that_stands_with_other_content_is_a_conflict(tmp_path: Path, stated: int) -> None:
    standing = applied(shop(3, "2026-01-01T00:00:00Z", team="old"))
    [conflict] = planned(tmp_path, OWNED + f"version: {stated}\n", standing).conflicts

    assert f"says version {stated}, but service/shop has come to version 3" in conflict
    assert "say version 4, or none" in conflict


def test_a_stated_version_that_is_new_is_taken(tmp_path: Path) -> None:
    standing = applied(shop(3, "2026-01-01T00:00:00Z", team="old"))
    [change] = planned(tmp_path, OWNED + "version: 7\n", standing).changes

    assert change.key == "service/shop/7"


def test_a_change_of_the_past_is_warned_of(tmp_path: Path) -> None:
    standing = applied(shop(1, "2026-01-01T00:00:00Z", team="old"))
    found = planned(tmp_path, OWNED + "effective_from: 2026-06-01T00:00:00Z\n", standing)
    first = planned(tmp_path, OWNED + "effective_from: 2020-01-01T00:00:00Z\n")

    assert len(found.changes) == 1
    assert "a replay judges those events by the new version" in found.warnings[0]
    assert first.warnings == ()  # there is nothing yet that was judged by another version


def test_a_change_that_would_never_come_into_force_is_a_conflict(tmp_path: Path) -> None:
    standing = applied(shop(1, "2027-01-01T00:00:00Z", team="planned"))
    [conflict] = planned(tmp_path, OWNED, standing).conflicts

    assert "before version 1 of service/shop" in conflict


def test_an_invalid_version_on_the_topic_is_replaced(tmp_path: Path) -> None:
    broken = {"kind": "service", "name": "shop", "version": 2, "spec": {"team": []}}
    found = planned(tmp_path, OWNED, applied(broken))

    assert [change.key for change in found.changes] == ["service/shop/3"]
    assert "-  team: []" in difference(found.changes[0])


WINDOW = (
    "kind: change_window\nname: days\neffective_from: 2026-01-01T00:00:00Z\n"
    "spec: {effect: allow, zone: UTC, start: 2026-01-05T09:00, duration_minutes: 60, except: [holidays]}\n"
)
CALENDAR = "kind: calendar\nname: holidays\nspec: {dates: [2026-12-24]}\n"


def test_a_window_that_holds_before_its_calendar_is_warned_of(tmp_path: Path) -> None:
    [warning] = planned(tmp_path, f"{WINDOW}---\n{CALENDAR}").warnings

    assert "change_window/days/1 holds from 2026-01-01T00:00:00.000000Z, the calendar holidays only later" in warning
    assert "counts as closed" in warning


def test_a_window_that_holds_with_its_calendar_is_not_warned_of(tmp_path: Path) -> None:
    since = "effective_from: 2026-01-01T00:00:00Z\n"
    days = {"kind": "calendar", "name": "holidays", "effective_from": "2025-01-01T00:00:00Z"}
    before = applied(days | {"version": 1, "spec": {"dates": ["2025-12-24"]}})

    assert planned(tmp_path, f"{WINDOW}---\n{since}{CALENDAR}").warnings == ()
    assert planned(tmp_path, f"{WINDOW}---\n{CALENDAR}", before).warnings == ()


def test_documents_of_no_file_are_named(tmp_path: Path) -> None:
    standing = applied({"kind": "region", "name": "eu-west-1", "spec": {}})

    assert planned(tmp_path, OWNED, standing).elsewhere == ("region/eu-west-1",)


def test_a_change_that_somebody_overwrote_is_missed(tmp_path: Path) -> None:
    [change] = planned(tmp_path, OWNED).changes
    mine, theirs = read_document(change.value), read_document(change.value | {"spec": {"team": "theirs"}})

    assert missing([change], PolicySet().with_documents([mine])) == []
    assert missing([change], PolicySet().with_documents([theirs])) == ["service/shop/1"]
    assert missing([change], PolicySet()) == ["service/shop/1"]


def test_a_name_and_an_alias_stand_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(OWNED)
    (tmp_path / "b.yaml").write_text(
        "kind: service\nname: store\nspec: {aliases: [SHOP, store-*]}\n---\n" + OWNED + "---\n"
        "kind: service\nname: storage\nspec: {aliases: [STORE-*]}\n"
    )
    _, problems = read_files([tmp_path])

    assert problems == [
        f"{tmp_path}/b.yaml:5: service/shop stands already in {tmp_path}/a.yaml:1",
        f"{tmp_path}/b.yaml:1: the service name 'shop' is also of {tmp_path}/a.yaml:1",
        f"{tmp_path}/b.yaml:9: the service name 'store-*' is also of {tmp_path}/b.yaml:1",
    ]


def test_every_problem_of_every_file_is_told_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("kind: service\nname: shop\nspec:\n  team: []\n  regimes: [no]\n")
    (tmp_path / "b.yaml").write_text("kind: services\nname: x y\nspec: {}\n---\n[oops\n")

    assert main(["diff", str(tmp_path)]) == EXIT_INVALID
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{tmp_path}/a.yaml:4: spec.team: is []; expected text"
    assert told[1] == f"{tmp_path}/a.yaml:5: spec.regimes: is [False]; expected a list of texts"
    assert told[2].startswith(f"{tmp_path}/b.yaml:1: kind: is 'services'; expected one of service, ")
    assert told[3].startswith(f"{tmp_path}/b.yaml:2: name: is 'x y'")
    assert told[4] == f"{tmp_path}/b.yaml:6: no YAML: expected ',' or ']', but got '<stream end>'"
    assert told[5] == "5 problems"


def test_policies_are_explained_in_words() -> None:
    window = {
        "effect": "allow",
        "zone": "Europe/Berlin",
        "start": "2026-01-05T09:00",
        "duration_minutes": 480,
        "rrule": "FREQ=WEEKLY;BYDAY=MO,TU",
        "scope": {"environments": ["production"], "services": ["a", "b"]},
    }
    service = {"team": "payments", "tier": 1, "depends_on": ["cart", "stock"], "expected_duration_minutes": 20,
               "aliases": ["checkout-svc", "co-*"]}  # fmt: skip
    told = [
        in_words(
            read_document({"kind": kind, "name": name, "effective_from": "2026-01-01T00:00:00Z", "spec": spec}),
            Policies(),
            at=parse_instant("2026-11-03T12:00:00Z"),
        )
        for kind, name, spec in (
            ("change_window", "weekdays", window),
            ("service", "checkout", service),
            ("environment", "production", {"production": True, "aliases": ["prod"]}),
            ("thresholds", "default", {"lost_after_minutes": 1440}),
            ("intake", "signed", {"unsigned": "refuse"}),
            (
                "required_fields",
                "business",
                {"fields": ["sprint"], "tags": ["cost"], "heal": {"sprint": ["feature_ticket"]}},
            ),
            ("regime", "sox", {"fields": ["change_ticket"], "controls": ["approved"]}),
            ("velocity", "usual", {"budget": 10, "burst": 3}),
        )
    ]

    assert told == [
        [
            "change_window/weekdays, from 2026-01-01T00:00:00.000000Z:",
            "Changes are allowed every week on Monday, Tuesday from 09:00 for 8 hours, Europe/Berlin, from 2026-01-05 "
            "on.",
            "Next: now to 17:00 CET; Mon 2026-11-09 09:00 to 17:00 CET; Tue 2026-11-10 09:00 to 17:00 CET.",
            "It applies to services a or b in environments production.",
        ],
        [
            "service/checkout, from 2026-01-01T00:00:00.000000Z:",
            "checkout is owned by payments.",
            "Its tier is 1.",
            "What is reported as checkout-svc is recorded as checkout.",
            "So is what looks like co-*, where no name and no longer pattern says otherwise.",
            "It cannot do without cart and stock: their deployments may be the cause of its alerts.",
            "Its deployments are overdue after 20 minutes.",
        ],
        [
            "environment/production, from 2026-01-01T00:00:00.000000Z:",
            "production is production.",
            "What is reported as prod is recorded as production.",
        ],
        [
            "thresholds/default, from 2026-01-01T00:00:00.000000Z:",
            "A deployment of which nothing is heard counts as lost after 24 hours.",
        ],
        [
            "intake/signed, from 2026-01-01T00:00:00.000000Z:",
            "Records that come from Kafka without a signature are refused, and set aside as dead letters.",
            "It applies to everything.",
        ],
        [
            "required_fields/business, from 2026-01-01T00:00:00.000000Z:",
            "A deployment must say sprint and the tag cost; without, it is quarantined until they are found.",
            "sprint is also taken from other records of the same feature_ticket.",
            "It applies to everything.",
        ],
        [
            "regime/sox, from 2026-01-01T00:00:00.000000Z:",
            "sox holds for the services whose policy lists it.",
            "Each of their deployments must say change_ticket.",
            "Somebody must have approved it.",
            "It applies to everything.",
        ],
        [
            "velocity/usual, from 2026-01-01T00:00:00.000000Z:",
            "A service may have 10 changes in 168 hours in an environment; more are over its budget.",
            "3 changes within 60 minutes are a burst.",
            "It applies to everything.",
        ],
    ]


KINDS_IN_WORDS = [
    (
        "approval",
        {"count": 2, "roles": ["release"], "holders": {"release": ["ada", "bob"]}, "permit": True},
        [
            "A deployment needs the approval of 2 different people in the role release.",
            "One that does not say how long it holds, holds for 24 hours.",
            "Neither the deployer nor an author of its commits may give it.",
            "In the role release is ada and bob.",
            "It must be registered before it begins.",
            "It must have a permit of the gate.",
            "It applies to everything.",
        ],
    ),
    (
        "approval",
        {"count": 0, "registration": False},
        ["A deployment needs no approval.", "It applies to everything."],
    ),
    (
        "suppression",
        {"severities": ["warning"], "lead_minutes": 5, "dependents": True},
        [
            "While a deployment runs, known alerts of the severity warning keep quiet; critical and new never.",
            "That begins 5 minutes before its start.",
            "It ends with it, or 60 minutes after its start; what fires then is told.",
            "Alerts of services that declare to depend on it keep quiet, too.",
            "It applies to everything.",
        ],
    ),
    (
        "rollback_verification",
        {"required": ["digest", "health"]},
        [
            "A rollback has helped if within 15 minutes these hold: the earlier artifact runs and health is as usual.",
            "Usual health is that of the 60 minutes before what was rolled back.",
            "It applies to everything.",
        ],
    ),
]


@pytest.mark.parametrize(("kind", "spec", "expected"), KINDS_IN_WORDS)
def test_the_other_kinds_are_explained_with_what_holds_where_they_say_nothing(
    kind: str, spec: dict[str, object], expected: list[str]
) -> None:
    document = read_document({"kind": kind, "name": "one", "spec": spec})

    assert document.problems == ()
    assert in_words(document, Policies(), at=NOON)[1:] == expected


@pytest.mark.requirement("M5.5")
def test_a_policy_that_names_somebody_with_a_pseudonym_is_refused_and_told_what_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = NameMap(tmp_path / "names.db")
    ada = names.pseudonym("ada.lovelace@example.com")
    names.pseudonym("web")  # somebody is called as a team
    monkeypatch.setenv("DEPLOYTRAIL_PSEUDONYMS", str(tmp_path / "names.db"))
    file = tmp_path / "shop.yaml"
    file.write_text(OWNED)
    assert main(["check", str(file)]) == 0
    file.write_text(OWNED + "---\nkind: service\nname: ledger\nspec: {team: ada-lovelace}\n")

    assert main(["check", str(file)]) == EXIT_INVALID
    [line] = [line for line in capsys.readouterr().err.splitlines() if "DEPLOYTRAIL_PSEUDONYMS" in line]
    assert line.startswith(f"{file}:5: 'ada-lovelace' names somebody")
    assert line.endswith(f"say {ada!r}")
