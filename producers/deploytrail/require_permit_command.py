"""`deploytrail require-permit`: ask the gate whether this may be deployed now, and take its permit along.

For the step before a deploy: `permit=$(deploytrail require-permit --artifact-digest sha256:…) && deploy "$permit"`.
It fails closed: exit status 0 with a permit, 77 where the gate refuses, with every reason, 69 where nobody can tell.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from deploytrail_schemas.redaction import redact_text

from deploytrail._options import DEPLOYMENT_ID, Parser, UsageError, usage_error
from deploytrail._require_permit import PLACES, WAIT_SECONDS, NoPermitAnswer, PermitRefused, require_permit

WORD = "require-permit"
EXIT_REFUSED = 77  # EX_NOPERM of sysexits.h
EXIT_NO_ANSWER = 69  # EX_UNAVAILABLE


def main(argv: list[str]) -> int:
    """Exit code 0 with a permit, 77 where the gate refuses, 69 where nobody can tell, 64 for wrong words."""
    try:
        options = _parser().parse_args(argv)
    except UsageError as error:
        return usage_error(WORD, error)
    try:
        given = require_permit(
            options.artifact_digest,
            deployment_id=options.deployment_id or "",
            deployer=options.deployer or "",
            wait_seconds=options.wait,
            **{name: getattr(options, name) or "" for name in PLACES},
        )
        _hand_over(given.text, options.out)
    except PermitRefused as error:
        print(f"deploytrail {WORD}: refused: {redact_text(str(error))}", file=sys.stderr)
        for reason, detail in error.reasons.items():
            print(f"  {redact_text(reason)}: {redact_text(detail)}", file=sys.stderr)
        return EXIT_REFUSED
    except (NoPermitAnswer, OSError) as error:
        print(f"deploytrail {WORD}: no answer: {redact_text(str(error))}", file=sys.stderr)
        return EXIT_NO_ANSWER
    permit = given.permit
    said = f"allowed ({given.reason}): the permit {permit.id} for {permit.deployment_id}, ticket {permit.change_ticket}"
    print(f"deploytrail {WORD}: {said}", file=sys.stderr)
    return 0


def _hand_over(text: str, path: Path | None) -> None:
    """To the file, which nobody else may read, or to standard output."""
    if path is None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(f"{text}\n")
    fresh.replace(path)


def _parser() -> Parser:
    made = Parser(prog=f"deploytrail {WORD}", description=(__doc__ or "").partition("\n\n")[2], allow_abbrev=False)
    for name in PLACES:
        made.add_argument(f"--{name}", metavar="NAME", help=f"default: DEPLOYTRAIL_{name.upper()}")
    made.add_argument("--artifact-digest", required=True, metavar="sha256:…", help="digest of what is deployed")
    made.add_argument("--deployment-id", metavar="ID", help=f"as `register` printed it; default: {DEPLOYMENT_ID}")
    made.add_argument("--deployer", metavar="NAME", help="who deploys it; default: DEPLOYTRAIL_DEPLOYER")
    made.add_argument("--out", type=Path, metavar="FILE", help="file for the permit; default: standard output")
    made.add_argument(
        "--wait", type=_seconds, default=WAIT_SECONDS, metavar="SECONDS", help="ask so long while the gate is away"
    )
    return made


def _seconds(text: str) -> float:
    found = float(text)
    if not 0 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 to 3600 seconds")
    return found
