"""`deploytrail policy explain`: windows in words, with the next times at which changes are really allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_processors.policy_command import main

POLICIES = """\
kind: change_window
name: weekdays
effective_from: 2026-01-01T00:00:00Z
spec:
  effect: allow
  zone: Europe/Berlin
  start: 2026-01-05T09:00
  duration: PT8H
  rrule: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH
  exdates: [2026-12-31]
  except: [holidays-de]
  overrun: violation
  overrun_grace_minutes: 15
  scope: {environments: [production], regions: [eu-west-1]}
---
kind: change_window
name: year-end
spec:
  effect: deny
  zone: Europe/Berlin
  start: 2026-12-18T12:00
  end: 2027-01-04T08:00
  scope: {environments: [production]}
---
kind: change_window
name: settlement
spec:
  effect: deny
  zone: Europe/London
  start: 2026-01-05T14:00
  duration_minutes: 60
  rrule: FREQ=DAILY
  overrun: warn
  scope: {environments: [production], services: [payments, ledger]}
---
kind: change_window
name: month-end
spec:
  effect: allow
  zone: America/New_York
  start: 2026-01-02T18:00
  duration: P2DT14H
  rrule: FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20270101T000000Z
  rdates: [2026-12-05T18:00]
  scope: {environments: [staging]}
---
kind: calendar
name: holidays-de
spec: {dates: [2026-12-24/2026-12-26]}
---
kind: break_glass
name: hotfixes
spec: {scope: {kinds: [hotfix]}, approver_roles: [cto, incident-commander], approve_within_minutes: 30}
---
kind: service
name: shop
spec: {team: web}
"""
# 2026-12-16, 11:00 in Berlin: a Wednesday.
AT = "2026-12-16T10:00:00Z"
GOLDEN = """\
change_window/weekdays, from 2026-01-01T00:00:00.000000Z:
  Changes are allowed every week on Monday, Tuesday, Wednesday, Thursday from 09:00 for 8 hours, Europe/Berlin, from \
2026-01-05 on.
  Left out: calendar holidays-de, 2026-12-31.
  What still runs when it closes is a violation 15 minutes later.
  Next: now to 17:00 CET; Thu 2026-12-17 09:00 to 17:00 CET; Mon 2027-01-04 09:00 to 17:00 CET.
  In part it is denied by change_window/settlement.
  It applies to environments production in regions eu-west-1.

change_window/year-end, from when it is applied:
  Changes are denied, whatever else allows them, once, from 2026-12-18 12:00 to 2027-01-04 08:00, Europe/Berlin.
  Next: Fri 2026-12-18 12:00 CET to Mon 2027-01-04 08:00 CET.
  It applies to environments production.

change_window/settlement, from when it is applied:
  Changes are denied, whatever else allows them, every day from 14:00 for 1 hour, Europe/London, from 2026-01-05 on.
  What still runs when it begins is a warning.
  Next: Wed 2026-12-16 14:00 to 15:00 GMT; Thu 2026-12-17 14:00 to 15:00 GMT; Fri 2026-12-18 14:00 to 15:00 GMT.
  It applies to services payments or ledger in environments production.

change_window/month-end, from when it is applied:
  Changes are allowed every month on the last Friday of the month from 18:00 for 2 days 14 hours, America/New_York, \
from 2026-01-02 on up to 2026-12-31 19:00.
  Besides: 2026-12-05 18:00.
  Next: Fri 2026-12-25 18:00 EST to Mon 2026-12-28 08:00 EST.
  It applies to environments staging.

"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return path


def explained(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["explain", str(path), "--at", AT]) == 0
    return capsys.readouterr().out


@pytest.mark.requirement("M4.2")
def test_windows_are_told_in_words_with_their_next_three_times(
    policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = explained(policies, capsys)

    windows, _, others = told.partition("calendar/holidays-de, ")
    assert windows == GOLDEN
    assert others.startswith(
        """\
from when it is applied:
  Its days are 2026-12-24/2026-12-26.
  Days and times without a zone are where the window lies that leaves them out.

break_glass/hotfixes, from when it is applied:
  An emergency may start while windows are closed, if somebody other than its deployer and authors has approved it as \
one, with a reason and an end.
  Who approves is cto or incident-commander.
  The approval holds for 24 hours at most.
  It may be given up to 30 minutes after the start.
  It applies to kinds hotfix.
"""
    )
    assert "\nservice/shop, " in told


def test_a_window_whose_calendar_is_missing_is_never_there(policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies.write_text(POLICIES.replace("name: holidays-de", "name: holidays-fr"))

    assert "  It is never there: calendar/holidays-de is missing or invalid.\n" in explained(policies, capsys)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY;INTERVAL=3", "every 3 days from 09:00"),
        ("FREQ=DAILY;BYHOUR=6,14", "every day from 06:00, 14:00"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,-1", "every month on the last day of the month, the first day of the month from"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
         "every month on Monday, Tuesday, Wednesday, Thursday, Friday (of these the last start) from 09:00"),
        ("FREQ=YEARLY;BYMONTH=3,9;BYDAY=2SA", "every year in March, September on the second Saturday of the month"),
        ("FREQ=YEARLY;BYDAY=20MO", "every year on the 20th Monday of the year from 09:00"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "every year in week 20 on Monday from 09:00"),
        ("FREQ=YEARLY;BYYEARDAY=100,-2", "every year on the second last day of the year, the 100th day of the year"),
        ("FREQ=YEARLY", "every year in January on the fifth day of the month from 09:00"),
        ("FREQ=WEEKLY;COUNT=3", "every week on Monday from 09:00 for 8 hours, Europe/Berlin, from 2026-01-05 on up to "
                                "2026-01-19 09:00"),
    ],
)  # fmt: skip
def test_every_part_of_a_rule_has_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, words: str
) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        f"kind: change_window\nname: w\nspec: {{effect: allow, zone: Europe/Berlin, start: '2026-01-05T09:00', "
        f"duration: PT8H, rrule: '{rule}'}}\n"
    )

    assert explained(path, capsys).splitlines()[1].startswith(f"  Changes are allowed {words}")


def test_an_instant_that_is_none_is_refused(policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", str(policies), "--at", "tomorrow"])
    assert "'tomorrow' is not an RFC 3339 date-time" in capsys.readouterr().err


def test_names_that_no_record_can_have_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES.replace("environments: [staging]", "environments: [stagnig]"))

    assert main(["explain", str(path), "--at", AT]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {path}:45: spec.scope.environments: 'stagnig' is no environment that anybody knows; did you mean "
        "staging?; declare it by a policy of the kind environment if it is one"
    ]


def test_files_are_explained_where_the_settings_have_no_regions_that_could_be_read(
    policies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = explained(policies, capsys)
    monkeypatch.setenv("DEPLOYTRAIL_REGIONS", "eu-west-1")
    code = main(["explain", str(policies), "--at", AT])
    said = capsys.readouterr()

    assert (code, said.out) == (0, usual)
    assert said.err.splitlines() == [
        "warning: DEPLOYTRAIL_REGIONS has 'eu-west-1'; expected name=number; whether regions of scopes are known is "
        "not said"
    ]
