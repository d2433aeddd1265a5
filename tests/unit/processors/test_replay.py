"""A replay: what handlers in memory make of a trail, and every way in which that can differ from what stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deploytrail_processors.policy_command import main as policy
from deploytrail_processors.processor_command import NAMES
from deploytrail_processors.processor_command import main as processor
from deploytrail_processors.replay import Outputs
from deploytrail_processors.replay_command import NOT_REPLAYED, WrongWords, as_if_applied, makers
from deploytrail_processors.replay_compare import compare
from deploytrail_processors.rules.policies import PolicySet, read_document
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from support.apps import Handled
from support.story import EFFECTS, POLICIES, tell
from yaml import safe_load_all

Value = dict[str, Any]


def finding(name: str, **fields: Any) -> Value:
    usual = {"finding_id": name, "rule": "overdue", "verdict": "violation", "reason": "late", "deployment_id": "d",
             "signal_id": "", "supersedes": ""}  # fmt: skip
    return usual | fields


def record(revision: int, **fields: Any) -> Value:
    return {"deployment_id": "d", "revision": revision, "recorded_at": revision, "state": "running"} | fields


def outputs(*values: Value) -> Outputs:
    found = Outputs()
    for value in values:
        found.take(RecordType.FINDING if "finding_id" in value else RecordType.RECORD, value)
    return found


def differences(written: Outputs, replayed: Outputs) -> list[str]:
    return [" ".join(str(one).split()) for one in compare("overdue", 1, written, replayed)]


def test_what_is_the_same_in_the_end_does_not_differ_whatever_the_way_there_was() -> None:
    written = outputs(record(1), record(3, state="lost"), record(2), finding("a"), finding("b", supersedes="a"))
    replayed = outputs(record(1_000_001, state="lost"), finding("b"))

    assert differences(written, replayed) == []


@pytest.mark.parametrize(
    ("written", "replayed", "said"),
    [
        ((), (finding("a"),), "added overdue d: violation late"),
        ((finding("a"),), (), "missing overdue d: violation late"),
        ((finding("a"),), (finding("b", verdict="ok"),), "changed overdue d: verdict: violation → ok"),
        ((finding("a"),), (finding("a", explanation="since"),), "changed overdue d: explanation: None → since"),
        ((finding("a", deployment_id=""),), (), "missing overdue //: violation late"),
        ((record(1),), (record(1, state="lost"),), "changed record d: state: running → lost"),
        ((), (record(1),), "added record d: running"),
        # What replaced it on one side alone.
        ((finding("a"), finding("b", supersedes="a", verdict="ok")), (finding("a"),),
         "changed overdue d: verdict: ok → violation"),
    ],
)  # fmt: skip
def test_what_differs_is_said_by_rule_and_deployment(written: Any, replayed: Any, said: str) -> None:
    assert differences(outputs(*written), outputs(*replayed)) == [said]


def test_findings_of_different_subjects_are_no_pair() -> None:
    found = differences(outputs(finding("a")), outputs(finding("b", deployment_id="e")))

    assert found == ["missing overdue d: violation late", "added overdue e: violation late"]


def document(name: str, minutes: int, **fields: Any) -> Value:
    spec = {"expected_duration_minutes": minutes}
    return {"kind": "service", "name": name, "spec": spec, "effective_from": "2026-01-01T00:00:00Z", **fields}


def test_files_stand_in_place_of_policies_of_their_name_from_the_beginning() -> None:
    standing = PolicySet().with_documents(map(read_document, (
        document("shop", 5), document("shop", 7, version=2, effective_from="2026-05-01T00:00:00Z"), document("cart", 3),
    )))  # fmt: skip
    without = {"kind": "service", "name": "shop", "spec": {"expected_duration_minutes": 9}}
    asked = as_if_applied(standing, [read_document(without)])

    assert {d.key: d.effective_from for d in asked.versions.values()} == {
        "service/shop/3": 0,
        "service/cart/1": read_document(document("cart", 3)).effective_from,
    }
    assert asked.at(0).service("shop").expected_duration_minutes == 9


def test_a_file_that_changes_nothing_leaves_the_versions_that_findings_cite() -> None:
    standing = PolicySet().with_documents([read_document(document("shop", 5, version=4))])

    assert as_if_applied(standing, [read_document(document("shop", 5))]).versions == standing.versions


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_REPLAYED])
def test_every_app_over_the_trail_has_an_effect_in_a_replay(name: str) -> None:
    [(_, make)] = makers([name], Settings()).items()
    handled = Handled(make, safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")), partition=1)
    for _, kind, value in tell(12, 1):
        handled.handle(kind, value)
    rules = {value.get("rule", "") for value in handled.written}

    assert name in EFFECTS, f"say in support/story.py what {name} makes of the story"
    assert EFFECTS[name] in rules


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody"], "there is no processor nobody"),
        ([], "which processors?"),
        (["overdue", "--compare"], "give --replay, too"),
    ],
)
def test_wrong_words_are_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        processor(words)

    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_words_that_no_replay_can_follow_are_an_error_of_ours() -> None:
    assert issubclass(WrongWords, DeploytrailError)


@pytest.mark.parametrize("words", [["lifecycle"], ["gate"], ["lifecycle", "--replay"]])
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("DEPLOYTRAIL_PARTITIONS", "many", "DEPLOYTRAIL_PARTITIONS is 'many'"),
        ("DEPLOYTRAIL_TICK_SECONDS", "soon", "DEPLOYTRAIL_TICK_SECONDS is 'soon'"),
    ],
)
def test_a_setting_that_is_wrong_ends_with_78(
    words: list[str],
    name: str,
    text: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, text)

    assert processor(words) == 78
    assert says in capsys.readouterr().err


def test_policies_that_cannot_be_looked_for_by_these_settings_end_with_78(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text("kind: environment\nname: production\nspec: {production: true}\n")
    monkeypatch.setenv("DEPLOYTRAIL_PARTITIONS", "many")

    assert policy(["diff", str(tmp_path / "one.yaml")]) == 78
