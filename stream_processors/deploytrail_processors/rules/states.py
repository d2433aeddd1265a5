"""States of a deployment, in one table. `state_diagram` draws it."""

from __future__ import annotations

_ENDS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "rolled_back": "rolled_back"}
_GOES = {"started": "running", "progressed": "running"}

# Which state an event, or a step of an approval (requested, approved), leads to, from which. What is not listed
# leaves the state as it is: an end is not undone by a report that belongs before it.
TRANSITIONS: dict[str, dict[str, str]] = {
    "unknown": {"registered": "registered", "requested": "waiting_approval", "queued": "queued", **_GOES, **_ENDS},
    "registered": {"requested": "waiting_approval", "queued": "queued", **_GOES, **_ENDS},
    # Forges create a deployment, and say then that it waits for a person.
    "queued": {"registered": "registered", "requested": "waiting_approval", **_GOES, **_ENDS},
    "waiting_approval": {"approved": "registered", **_GOES, **_ENDS},
    "running": _ENDS,
    # A later end corrects an earlier one: a retry under the same id, or a second source.
    "succeeded": {end: end for end in _ENDS if end != "succeeded"},
    "failed": {end: end for end in _ENDS if end != "failed"},
    "cancelled": {"succeeded": "succeeded", "failed": "failed", "rolled_back": "rolled_back"},
    "rolled_back": {},
}
TERMINAL = frozenset(_ENDS)
OPEN = frozenset({"queued", "running", "degraded"})
# Of events at one time, the earlier in life comes first; of two ends the worse comes last and stays.
ORDER = ("registered", "requested", "approved", "queued", "started", "progressed",
         "succeeded", "cancelled", "failed", "rolled_back")  # fmt: skip

_BEFORE_ITS_END = ("registered", "waiting_approval", "queued", "running", "degraded")
# States that no event names: from which, why, to which. What was lost or superseded and is heard of again goes by
# what is heard.
DERIVED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("running",), "a cohort or a component failed and others run", "degraded"),
    (("degraded",), "all have ended", "failed"),
    (("running",), "all cohorts or components succeeded", "succeeded"),
    (_BEFORE_ITS_END[:-1], "all its children succeeded", "succeeded"),
    (_BEFORE_ITS_END[:-1], "all its children have ended, and one failed", "failed"),
    (_BEFORE_ITS_END[:-1], "all its children have ended, and one was cancelled", "cancelled"),
    (tuple(state for state in _BEFORE_ITS_END if state in OPEN), "nothing is heard of it for too long", "lost"),
    (_BEFORE_ITS_END, "a newer one succeeded", "superseded"),
    (("running", "succeeded", "failed"), "its rollback succeeded", "rolled_back"),
)
# From whatever state.
FROM_ANY: tuple[tuple[str, str], ...] = (
    ("voided", "an event of the type voided"),
    ("merged", "it is another name of a deployment"),
)
STATES = frozenset(TRANSITIONS) | {to for _, _, to in DERIVED} | {state for state, _ in FROM_ANY}
