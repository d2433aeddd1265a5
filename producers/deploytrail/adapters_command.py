"""`deploytrail adapters [NAME]`: what each source of webhooks tells, and what it can never tell (the loss report).

The report is derived from `Source.fills`, which golden cases prove in both directions: a field that a source
says it fills is filled by a case, and none that it does not say is. What intake sets is no source's to fill.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from textwrap import fill
from typing import Any

from deploytrail_schemas.arguments import did_you_mean
from deploytrail_schemas.records import CANONICAL_FIELDS, REPORTED, RecordType
from deploytrail_schemas.schema import fields
from deploytrail_schemas.scopes import PLACES

from deploytrail import adapters
from deploytrail._report import USAGE_ERROR
from deploytrail.adapters.base import Source

# What a webhook reports is reported, and by whom it was is sure: these say it of every source alike.
ALIKE = frozenset({"provenance", "confidence"})
KINDS = tuple(kind for kind in RecordType if kind in REPORTED)


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one kind of record that a source gives: which fields it can fill, and which never. In the schema's order."""

    fills: tuple[str, ...]
    never: tuple[str, ...]


def loss_of(source: Source) -> dict[RecordType, Loss]:
    """The loss of each kind of record that the source gives."""
    found = {}
    for kind in KINDS:
        if kind in source.fills:
            names = [f["name"] for f in fields(kind) if f["name"] not in ALIKE.union(CANONICAL_FIELDS)]
            filled = source.fills[kind]
            found[kind] = Loss(
                tuple(name for name in names if name in filled), tuple(name for name in names if name not in filled)
            )
    return found


def main(argv: list[str]) -> int:
    """0; 64 where the words make no sense (EX_USAGE of sysexits.h)."""
    made = argparse.ArgumentParser(prog="deploytrail adapters", description="What each source of webhooks tells.")
    made.add_argument(
        "name", nargs="?", metavar="NAME", help="only this source, with its statuses and how to set it up"
    )
    form = made.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--markdown", action="store_true", help="as tables in Markdown")
    try:
        options = made.parse_args(argv)
    except SystemExit as ended:
        return USAGE_ERROR if ended.code else 0
    name: str | None = options.name
    if name is not None and name not in adapters.names():
        print(
            f"deploytrail adapters: there is no source {name!r}; there are {', '.join(adapters.names())}"
            f"{did_you_mean(name, adapters.names())}",
            file=sys.stderr,
        )
        return USAGE_ERROR
    sources = [adapters.load(each) for each in ([name] if name else adapters.names())]
    if options.json:
        print(json.dumps({"sources": [as_json(source) for source in sources]}, indent=2, ensure_ascii=False))
    elif options.markdown:
        print(one_as_markdown(sources[0]) if name else as_markdown(sources))
    else:
        print(one_as_text(sources[0]) if name else as_text(sources))
    return 0


def as_json(source: Source) -> dict[str, Any]:
    """A source as a JSON object: statuses, what it ignores and why, options, and its loss by kind of record."""
    return {
        "name": source.name,
        "title": source.title,
        "path": f"/webhooks/{source.name}",
        "signature": source.signature,
        "records": {
            kind.value: {"fills": list(loss.fills), "never": list(loss.never)} for kind, loss in loss_of(source).items()
        },
        "gives_no": _gives_no(source),
        "statuses": dict(source.statuses),
        "ignored": dict(source.ignored),
        "options": dict(source.options),
    }


def as_text(sources: Iterable[Source]) -> str:
    """The loss report of several sources."""
    parts = [_head(source) + "\n" + _losses(source) for source in sources]
    return "\n\n".join([*parts, _URL_HELPS])


def one_as_text(source: Source) -> str:
    """Everything of one source: what its module says, statuses, what it ignores, options, loss."""
    parts = [_head(source), _doc(source), _set_up(source)]
    for title, table in _tables(source):
        width = max(map(len, table))
        parts.append("\n".join([f"{title}:", *(f"  {word:<{width}}  {meaning}" for word, meaning in table.items())]))
    return "\n\n".join([*parts, _losses(source), _URL_HELPS])


def as_markdown(sources: Iterable[Source]) -> str:
    """The loss report of several sources as one table."""
    rows = ["| source | record | fills | never fills |", "|---|---|---|---|"]
    for source in sources:
        for kind, loss in loss_of(source).items():
            rows.append(
                f"| {_cell(source.title)} (`{source.name}`) | {kind.value} | {len(loss.fills)} | {_codes(loss.never)} |"
            )
    return "\n".join([*rows, "", _URL_HELPS])


def one_as_markdown(source: Source) -> str:
    """Everything of one source, but how to set it up."""
    parts = [f"## {source.title} (`{source.name}`)", f"`POST /webhooks/{source.name}`, signature: {source.signature}"]
    for title, table in _tables(source):
        head = f"| {title} | |\n|---|---|\n"
        parts.append(head + "\n".join(f"| `{_cell(word)}` | {_cell(meaning)} |" for word, meaning in table.items()))
    for kind, loss in loss_of(source).items():
        parts.append(f"**{kind.value}** fills {_codes(loss.fills)}; never {_codes(loss.never)}.")
    return "\n\n".join([*parts, _URL_HELPS])


_URL_HELPS = (
    f"Of what a source never fills, its webhook's URL may say {', '.join(PLACES)} (?region=…&service=…);\n"
    "the rest may come from another source of the same deployment, or from the deploy script."
)


# How a sender shows its secret, where it does not sign with it.
_SHOWN = {
    "bearer": "sent as Authorization: Bearer SECRET",
    "basic": "user:password of Basic authentication",
    "datadog_api_key": "sent as DD-API-KEY",
    "sns": "the topic's ARN, or a token sent as Authorization: Bearer SECRET",
}


def _set_up(source: Source) -> str:
    how = _SHOWN.get(source.signature, "with which the sender signs")
    return "\n".join(
        [
            "the webhook, where nothing above says otherwise:",
            f"  URL     https://GATEWAY/webhooks/{source.name}?region=REGION, &environment= and &service= where needed",
            f'  secret  DEPLOYTRAIL_WEBHOOK_SECRETS="{source.name}=SECRET" of the gateway: {how}',
        ]
    )


def _head(source: Source) -> str:
    return f"{source.name}: {source.title}; POST /webhooks/{source.name}, signature: {source.signature}"


def _losses(source: Source) -> str:
    lines = []
    for kind, loss in loss_of(source).items():
        every = len(loss.fills) + len(loss.never)
        said = f"{kind.value} fills {len(loss.fills)} of {every}, never: {', '.join(loss.never)}"
        lines.append(fill(said, 118, initial_indent="  ", subsequent_indent="    "))
    if missing := _gives_no(source):
        lines.append(f"  gives no {', no '.join(missing)}")
    return "\n".join(lines)


def _gives_no(source: Source) -> list[str]:
    return [kind.value for kind in KINDS if kind not in source.fills]


def _doc(source: Source) -> str:
    """What the module says of itself: where the payload is documented, and how the source is set up."""
    return (import_module(f"{adapters.__name__}.{source.name}").__doc__ or "").strip()


def _tables(source: Source) -> list[tuple[str, Mapping[str, str]]]:
    found = (
        ("statuses", source.statuses),
        ("ignored", source.ignored),
        ("options of the webhook's URL", source.options),
    )
    return [(title, table) for title, table in found if table]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
