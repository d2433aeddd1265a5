"""`deploytrail verify-permit`: whether a permit allows this deployment, asked of nobody but its signature.

For the step before a deploy: `deploytrail verify-permit … && aws ecs update-service …`. It fails
closed: whatever is not a clear yes ends with another status than 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.permits import PermitVerdict, Subject, verify_permit
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail import _permit_keys
from deploytrail._options import DEPLOYMENT_ID, Parser, UsageError, usage_error
from deploytrail._used_permits import UsedPermits, held

WORD = "verify-permit"
EXIT_REFUSED = 77  # EX_NOPERM of sysexits.h
EXIT_NO_ANSWER = 69  # EX_UNAVAILABLE
_MOST_BYTES = 16 << 10


def main(argv: list[str]) -> int:
    """Exit code 0 where the permit allows it, 77 where it does not, 69 where nobody can tell, 64 for wrong words."""
    try:
        options = _parser().parse_args(argv)
    except UsageError as error:
        return usage_error(WORD, error)
    now = time.time()
    try:
        settings = Settings.load()
        subject = _subject(options, settings)
        authority = _permit_keys.authority(settings)
        text = _permit(options.permit, settings.permit)
        with held(options.used, now) if options.used else nullcontext() as used:
            verdict = verify_permit(text, subject, authority, now=now, used=used if used is not None else ())
            if used is not None and verdict.is_allowed:
                _use(used, verdict)
    except UsageError as error:
        return usage_error(WORD, error)
    except (DeploytrailError, OSError) as error:
        print(f"deploytrail verify-permit: no answer: {redact_text(str(error))}", file=sys.stderr)
        return EXIT_NO_ANSWER
    except ModuleNotFoundError as error:
        need = "pip install 'deploytrail[signing]'"
        print(f"deploytrail verify-permit: no answer: needs {error.name}: {need}", file=sys.stderr)
        return EXIT_NO_ANSWER
    return _tell(verdict)


def _tell(verdict: PermitVerdict) -> int:
    if verdict.is_allowed and verdict.permit is not None:
        permit = verdict.permit
        said = f"the permit {permit.id} allows it (ticket {permit.change_ticket}, deployment {permit.deployment_id})"
        print(f"deploytrail verify-permit: {said}", file=sys.stderr)
        return 0
    print("deploytrail verify-permit: refused", file=sys.stderr)
    for problem in verdict.problems:
        print(f"  {problem.reason}: {redact_text(problem.detail)}", file=sys.stderr)
    return EXIT_REFUSED


def _use(used: UsedPermits, verdict: PermitVerdict) -> None:
    if verdict.permit is not None:
        used.use(verdict.permit)


def _subject(options: argparse.Namespace, settings: Settings) -> Subject:
    """What is about to be deployed. UsageError where nobody says what."""
    places = {name: getattr(options, name) or getattr(settings, name) for name in ("service", "environment", "region")}
    for name, given in places.items():
        if not given:
            raise UsageError(f"which {name}? Give --{name} NAME, or set DEPLOYTRAIL_{name.upper()}")
    deployment_id = options.deployment_id or os.environ.get(DEPLOYMENT_ID) or None
    return Subject(options.artifact_digest, **places, deployment_id=deployment_id)


def _permit(path: str | None, given: str) -> str:
    if path is None:
        return given.strip()
    if path == "-":
        return sys.stdin.read(_MOST_BYTES).strip()
    with Path(path).open(encoding="ascii", errors="replace") as file:
        return file.read(_MOST_BYTES).strip()


def _parser() -> Parser:
    made = Parser(prog=f"deploytrail {WORD}", description=(__doc__ or "").partition("\n\n")[2], allow_abbrev=False)
    for name in ("service", "environment", "region"):
        made.add_argument(f"--{name}", metavar="NAME", help=f"default: DEPLOYTRAIL_{name.upper()}")
    made.add_argument("--artifact-digest", required=True, metavar="sha256:…", help="digest of what is deployed")
    made.add_argument("--deployment-id", metavar="ID", help=f"must be the permit's; default: {DEPLOYMENT_ID}, if set")
    made.add_argument("--permit", metavar="FILE", help="file of the permit, - for stdin; default: DEPLOYTRAIL_PERMIT")
    made.add_argument("--used", type=Path, metavar="FILE", help="remembers used permits here, and refuses them")
    return made
