"""What the gateway answers when it cannot accept: problem details (RFC 9457), every violation named."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.json_values import Violation
from deploytrail_schemas.reasons import Refusal
from starlette.responses import JSONResponse


class Problem(DeploytrailError):
    """A request that is not accepted."""

    def __init__(
        self,
        status: int,
        detail: str,
        violations: Sequence[Violation] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.violations, self.headers = status, detail, violations, headers or {}


class Refused(Problem):
    """A request of somebody who may not make it: answered, and recorded. `tried`: what it was about."""

    def __init__(
        self,
        status: int,
        detail: str,
        reason: Refusal,
        *,
        caller: str = "",
        violations: Sequence[Violation] = (),
        headers: dict[str, str] | None = None,
        tried: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(status, detail, violations, headers)
        self.reason, self.caller, self.tried = reason, caller, tried


def answer(problem: Problem) -> JSONResponse:
    """The response of a problem."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.violations:
        body["violations"] = listed(problem.violations)
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


def listed(violations: Sequence[Violation]) -> list[dict[str, str]]:
    """Violations as answers list them."""
    return [{"pointer": v.pointer, "detail": v.detail} for v in violations]
