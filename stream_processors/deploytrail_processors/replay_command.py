"""`deploytrail processor --replay [--compare]`: what apps would write of the trail, beside what they have written."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.policy_files import read_files
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.replay import MakeHandler, Replay, Replayed
from deploytrail_processors.replay_compare import Difference, compare
from deploytrail_processors.rules.policies import Document, PolicySet
from deploytrail_processors.state_formats import committed, end_offsets, group_of, offsets_at, state_format

# They write no records and no findings: one makes the trail itself, one answers questions, one reads no trail.
NOT_REPLAYED = frozenset({"intake", "gate", "federation"})
EXIT_DIFFERENT = 1
EXIT_INVALID = 65  # EX_DATAERR of sysexits.h
_FAILURES_TOLD = 10


class WrongWords(DeploytrailError):
    """The words of the command make no sense with these settings."""


def run_replay(names: list[str], options: argparse.Namespace, settings: Settings) -> int:
    """Replay, and compare where that is asked; the exit code of the process."""
    if refused := sorted(NOT_REPLAYED & set(names)):
        raise WrongWords(f"{', '.join(refused)}: writes no records and no findings that could be compared")
    partitions = _partitions(options.partitions, settings)
    if options.until is not None and options.until.isdecimal() and len(partitions) != 1:
        raise WrongWords(f"--until {options.until}: an offset is one of one partition; say which with --partitions")
    policies = _standing(settings)
    if options.policies:
        sources, problems = read_files(options.policies)
        if problems:
            print("\n".join([*problems, f"{counted(len(problems), 'problem')}; nothing was replayed"]), file=sys.stderr)
            return EXIT_INVALID
        policies = as_if_applied(policies, (source.document for source in sources))
    until = _until(names, options.until, partitions, settings)
    replay = Replay(settings, makers(names, settings), policies, until)
    told: list[Replayed] = []
    found: list[Difference] = []
    for partition in partitions:
        told.append(replay.told(partition))
        if options.compare:
            written = replay.written(partition)
            for name in names:
                found += compare(name, partition, written[name], told[-1].outputs[name])
    if options.json:
        print(json.dumps(_as_json(names, told, found, compared=options.compare), ensure_ascii=False, default=str))
    else:
        print("\n".join(_lines(names, told, found, compared=options.compare)))
    _tell_failures(told)
    return EXIT_DIFFERENT if found else 0


def makers(names: Iterable[str], settings: Settings) -> dict[str, MakeHandler]:
    """What makes the handler of each app in another context. ConfigurationError for an app that has none."""
    found: dict[str, MakeHandler] = {}
    with tempfile.TemporaryDirectory(prefix="deploytrail-replay-") as folder:
        for name in names:
            app = importlib.import_module(f"deploytrail_processors.apps.{name}").make(
                replace(settings, state=Path(folder))
            )
            if app.make_handler is None:
                raise ConfigurationError(f"{name} does not read the trail: it cannot be replayed")
            found[name] = app.make_handler
    return found


def as_if_applied(standing: PolicySet, documents: Iterable[Document]) -> PolicySet:
    """The policies where files stand in place of all versions of their names; a document that changes nothing does not.

    Without `effective_from` a document holds from the beginning: the question is what would have been.
    """
    versions = dict(standing.versions)
    for document in documents:
        latest = standing.latest(document.kind, document.name)
        if (
            latest is not None
            and latest.text == document.text
            and document.effective_from in (0, latest.effective_from)
        ):
            continue
        for key in [key for key in versions if key[:2] == (document.kind, document.name)]:
            del versions[key]
        number = max(document.version, latest.version + 1 if latest is not None else 1)
        versions[document.kind, document.name, number] = replace(document, version=number)
    return PolicySet(versions)


def _standing(settings: Settings) -> PolicySet:
    reader = PolicyReader(settings)
    try:
        return reader.read_to_end()
    finally:
        reader.close()


def _partitions(text: str | None, settings: Settings) -> list[int]:
    if text is None:
        return list(range(settings.partitions))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) < settings.partitions for part in parts):
        raise WrongWords(f"--partitions {text}: expected numbers below {settings.partitions}, such as 1,3")
    return sorted({int(part) for part in parts})


def _until(
    names: list[str], text: str | None, partitions: list[int], settings: Settings
) -> Mapping[str, Mapping[int, int]]:
    """Of each app, the offset before which it stops: what it has not read cannot be compared."""
    ends = dict(end_offsets(settings, Topic.EVENTS))
    if text is not None and text.isdecimal():
        ends[partitions[0]] = min(ends[partitions[0]], int(text))
    elif text is not None:
        ends = dict(offsets_at(settings, Topic.EVENTS, parse_instant(text) // 1000))
    done = {name: committed(settings, group_of(name, state_format(name)), Topic.EVENTS) for name in names}
    return {name: {p: min(end, done[name].get(p, end)) for p, end in ends.items()} for name in names}


def _lines(names: list[str], told: list[Replayed], found: list[Difference], *, compared: bool) -> list[str]:
    records, seconds = sum(one.records for one in told), sum(one.seconds for one in told)
    lines = [
        f"{counted(records, 'record')} of the trail in {seconds:.1f} s, {records / max(seconds, 1e-6):.0f} a second"
    ]
    lines += [
        f"partition {one.partition}: the trail begins at offset {one.begin}; what is older cannot be told again"
        for one in told
        if one.begin > 0
    ]
    for name in names:
        outputs = [one.outputs[name] for one in told]
        standing = Counter(found["rule"] for output in outputs for found in output.standing().values())
        parts = [f"{counted(sum(len(output.records) for output in outputs), 'deployment')} recorded"] if any(
            output.records for output in outputs
        ) else []  # fmt: skip
        parts += [f"{counted(count, 'finding')} of {rule}" for rule, count in sorted(standing.items())]
        lines.append(f"{name}: {', '.join(parts) or 'nothing'}")
    if compared:
        lines += [str(one) for one in found]
        counts = Counter(one.what for one in found)
        said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        lines.append(
            f"{counted(len(found), 'difference')}: {said}" if found else "no difference to what stands on the topics"
        )
    return lines


def _as_json(names: list[str], told: list[Replayed], found: list[Difference], *, compared: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "apps": names,
        "partitions": [
            {"partition": one.partition, "begin": max(one.begin, 0), "end": one.end, "records": one.records,
             "seconds": round(one.seconds, 3), "failed": one.failed}
            for one in told
        ],
    }  # fmt: skip
    if compared:
        return answer | {"identical": not found, "differences": [one.as_json() for one in found]}
    outputs = [(name, output) for one in told for name, output in one.outputs.items()]
    return answer | {
        "records": [value for _, output in outputs for value in output.records.values()],
        "findings": [value for _, output in outputs for value in output.standing().values()],
    }


def _tell_failures(told: list[Replayed]) -> None:
    failed = [text for one in told for text in one.failed]
    for text in failed[:_FAILURES_TOLD]:
        print(f"deploytrail processor: {text}", file=sys.stderr)
    if len(failed) > _FAILURES_TOLD:
        print(f"deploytrail processor: and {len(failed) - _FAILURES_TOLD} more", file=sys.stderr)
