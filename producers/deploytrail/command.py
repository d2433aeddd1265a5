"""The `deploytrail` command: finds the module of its first word and hands over.

Nothing is imported but what that word needs, so that `deploytrail start` stays quick. Words of
other rooms come from the entry-point group `deploytrail.commands` (name: the word; value:
`module:main` with `main(argv) -> int`), looked up only for words that are not our own.
"""

from __future__ import annotations

import sys

from deploytrail._report import USAGE_ERROR

GROUP = "deploytrail.commands"
OWN = {
    "run": ("deploytrail._run", "main", "run a command as a deployment: run [options] -- CMD"),
    "register": ("deploytrail._words", "register", "report that a deployment is intended; prints its id"),
    "start": ("deploytrail._words", "start", "report that a deployment began; prints its id"),
    "progress": ("deploytrail._words", "progress", "report that a deployment goes on"),
    "succeed": ("deploytrail._words", "succeed", "report that a deployment succeeded"),
    "fail": ("deploytrail._words", "fail", "report that a deployment failed"),
    "rollback": ("deploytrail._words", "rollback", "report that a deployment was rolled back, or run what does it"),
    "amend": ("deploytrail._words", "amend", "correct what was said of a deployment"),
    "void": ("deploytrail._words", "void", "say that there was no such deployment; its record stays, marked"),
    "agent": ("deploytrail._agent", "main", "send what is spooled on this host; take events on a socket"),
    "gateway": ("deploytrail.gateway.serve_command", "main", "serve the HTTP gateway (needs deploytrail[gateway])"),
    "adapters": ("deploytrail.adapters_command", "main", "say what each source of webhooks tells, and what it cannot"),
    "poll": ("deploytrail.poll_command", "main", "ask APIs for what webhooks missed (needs deploytrail[gateway])"),
    "doctor": ("deploytrail._doctor", "main", "say what works and what does not, with the fix"),
    "log": ("deploytrail.log_command", "main", "print records as JSON lines: of the spool, an archive or Kafka"),
    "subject": ("deploytrail.subject_command", "main", "add, show and erase whose pseudonym it is"),
    "token": ("deploytrail.token_command", "main", "make, list and revoke tokens"),
    "require-permit": (
        "deploytrail.require_permit_command",
        "main",
        "ask the gate whether this may be deployed now, and take its permit",
    ),
    "verify-permit": ("deploytrail.verify_permit_command", "main", "ask whether a permit allows a deployment; offline"),
    "admission": (
        "deploytrail.kubernetes.admission_command",
        "main",
        "let only permitted images into regulated namespaces of Kubernetes (needs deploytrail[gateway])",
    ),
    "watch": (
        "deploytrail.kubernetes.watch_command",
        "main",
        "find what was deployed to Kubernetes without a permit: watch kubernetes",
    ),
    "backfill": ("deploytrail.backfill_command", "main", "load history from JSON lines"),
}

_USAGE_OF_ARGPARSE = 2
# Words that need the extra `gateway`.
_OF_GATEWAY = {"gateway", "admission", "poll"}


def main(argv: list[str] | None = None) -> int:
    """The exit status of one command; 64 where there is no such word (EX_USAGE of sysexits.h)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in {"-h", "--help", "help"}:
        (sys.stdout if argv else sys.stderr).write(_help())
        return 0 if argv else USAGE_ERROR
    word, rest = argv[0], argv[1:]
    if word in {"-V", "--version"}:
        from importlib.metadata import version

        sys.stdout.write(f"deploytrail {version('deploytrail')}\n")
        return 0
    try:
        if word in OWN:
            module, function, _ = OWN[word]
            return _call(word, module, function, rest)
        return _foreign(word, rest)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except SystemExit as ended:
        if ended.code == _USAGE_OF_ARGPARSE:
            return USAGE_ERROR
        raise


def _call(word: str, module: str, function: str, argv: list[str]) -> int:
    from importlib import import_module

    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] == "deploytrail":
            sys.stderr.write(f"deploytrail {word}: this installation lacks {missing}\n")
            return USAGE_ERROR
        hint = "pip install 'deploytrail[gateway]'" if word in _OF_GATEWAY else f"pip install {missing}"
        sys.stderr.write(f"deploytrail {word}: needs {missing}, which is not installed: {hint}\n")
        return USAGE_ERROR
    return int(getattr(found, function)(argv) or 0)


def _foreign(word: str, argv: list[str]) -> int:
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=word):
        return int(entry.load()(argv) or 0)
    from deploytrail_schemas.arguments import did_you_mean

    words = sorted({*OWN, *(entry.name for entry in entry_points(group=GROUP))})
    listed = ", ".join(words)
    sys.stderr.write(f"deploytrail: there is no command {word!r}; there are {listed}{did_you_mean(word, words)}\n")
    return USAGE_ERROR


def _told_of(module: str) -> str:
    """What the first line of a module says behind `deploytrail WORD`; read, not run: some take a second to import."""
    import ast
    from importlib.util import find_spec
    from pathlib import Path

    try:
        found = find_spec(module)
        text = Path(found.origin).read_text("utf-8") if found and found.origin else ""
        said = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    except (ImportError, OSError, ValueError, SyntaxError):  # somebody else's, or without sources: the word is enough
        return ""
    return said.partition("`: ")[2].rstrip(".")


def _help() -> str:
    from importlib.metadata import entry_points

    lines = ["usage: deploytrail WORD [options]", ""]
    width = max(map(len, OWN))
    lines += [f"  {word:<{width}}  {meaning}" for word, (_, _, meaning) in OWN.items()]
    others = {entry.name: _told_of(entry.module) for entry in sorted(entry_points(group=GROUP))}
    if others:
        lines += ["", "installed beside it:", ""]
        lines += [f"  {word:<{width}}  {meaning}".rstrip() for word, meaning in others.items()]
    lines += ["", "deploytrail WORD --help says more. Settings are environment variables DEPLOYTRAIL_*.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
