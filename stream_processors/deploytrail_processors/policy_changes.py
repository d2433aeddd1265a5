"""What applying policy files would change against the policies topic, and the change itself.

A document is changed where its spec differs from the newest version of its name, or where it asks
for another `effective_from`. It gets the next version. What would go wrong unseen is refused: see
`plan`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.kafka import producer_config, why_undelivered
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.rules.policies import ChangeWindow, Document, PolicySet, read_document


@dataclass(frozen=True, slots=True)
class Source:
    """One document of a file."""

    path: Path
    line: int
    value: Any
    document: Document
    lines: Mapping[str, int] = field(default_factory=dict)  # of each field, by its dotted path

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def place_of(self, field_path: str) -> str:
        """File and line of a field; of one that is not there, of the document."""
        return f"{self.path}:{self.lines.get(field_path, self.line)}"


@dataclass(frozen=True, slots=True)
class Change:
    """A document that differs from the newest version of its name."""

    source: Source
    before: Document | None
    version: int
    effective_from: int

    @property
    def key(self) -> str:
        """kind/name/version, as on the topic and in findings."""
        return f"{self.source.document.kind}/{self.source.document.name}/{self.version}"

    @property
    def value(self) -> dict[str, Any]:
        """What is put on the topic."""
        return {
            "kind": self.source.document.kind,
            "name": self.source.document.name,
            "version": self.version,
            "effective_from": format_instant(self.effective_from),
            "spec": self.source.value["spec"],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying would do. Where there are `conflicts` nothing may be applied; `warnings` are for people."""

    changes: tuple[Change, ...]
    conflicts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()  # kind/name that stand on the topic and in no file: they stay in force


def plan(sources: list[Source], standing: PolicySet, *, now: int) -> Plan:
    """What applying the documents at `now` would do.

    A document that does not say from when it holds takes effect at `now`. Conflicts: a stated
    version that the topic has with other content, or has gone past; a change that would begin before
    the version that it replaces, which would stay in force. Warned of: a change of what is applied
    already that begins in the past, since what was judged since then stays, and a replay judges anew; and a
    change window that holds before a calendar which it leaves out does.
    """
    found: list[Change] = []
    conflicts: list[str] = []
    warnings: list[str] = []
    for source in sources:
        change = _change(source, standing.latest(source.document.kind, source.document.name), now)
        if change is None:
            continue
        found.append(change)
        conflicts.extend(f"{source.place}: {text}" for text in _conflicts(change))
        if change.before is not None and change.effective_from < now:
            warnings.append(
                f"{source.place}: {change.key} holds from {format_instant(change.effective_from)}, which is past: "
                "findings since then stay as they are, and a replay judges those events by the new version"
            )
    warnings.extend(_early_windows(found, standing))
    named = {(s.document.kind, s.document.name) for s in sources}
    elsewhere = sorted({f"{kind}/{name}" for kind, name, _ in standing.versions if (kind, name) not in named})
    return Plan(tuple(found), tuple(conflicts), tuple(warnings), tuple(elsewhere))


def _early_windows(changes: list[Change], standing: PolicySet) -> Iterator[str]:
    after = standing.with_documents(read_document(change.value | {"version": change.version}) for change in changes)
    for change in changes:
        spec = change.source.document.spec
        if not isinstance(spec, ChangeWindow):
            continue
        then = after.at(change.effective_from)
        if late := [name for name in spec.calendars if then.calendar(name) is None]:
            yield (
                f"{change.source.place}: {change.key} holds from {format_instant(change.effective_from)}, the calendar "
                f"{', '.join(late)} only later: until then the window counts as closed; give both one effective_from"
            )


def _change(source: Source, latest: Document | None, now: int) -> Change | None:
    document = source.document
    asked_from = document.effective_from if "effective_from" in source.value else None
    if (
        latest is not None
        and latest.spec is not None
        and latest.text == document.text
        and asked_from in (None, latest.effective_from)
    ):
        return None
    following = latest.version + 1 if latest else 1
    return Change(
        source, latest, max(following, source.value.get("version", 1)), now if asked_from is None else asked_from
    )


def _conflicts(change: Change) -> Iterator[str]:
    before, stated = change.before, change.source.value.get("version")
    name = change.key.rpartition("/")[0]
    if before is None:
        return
    if stated is not None and stated <= before.version:
        yield (
            f"says version {stated}, but {name} has come to version {before.version} with other content; "
            f"take what stands there into the file, and say version {before.version + 1}, or none"
        )
    if before.spec is not None and change.effective_from < before.effective_from:
        yield (
            f"would hold from {format_instant(change.effective_from)}, before version {before.version} of {name}, "
            f"which holds from {format_instant(before.effective_from)} and would stay in force; "
            "expected an effective_from that is not before it"
        )


def difference(change: Change) -> str:
    """A change as a unified diff of the documents' YAML."""
    before = change.before
    old = _yaml(before.effective_from, before.text) if before else []
    new = _yaml(change.effective_from, change.source.document.text)
    was = before.key if before else "(new)"
    lines = difflib.unified_diff(old, new, was, f"{change.key}  ({change.source.place})", lineterm="")
    return "\n".join(lines)


def _yaml(effective_from: int, text: str) -> list[str]:
    try:
        spec = json.loads(text)
    except ValueError:  # an invalid version on the topic may be no JSON
        spec = text
    value = {"effective_from": format_instant(effective_from) if effective_from else "(unknown)", "spec": spec}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110).splitlines()


def publish(settings: Settings, documents: Iterable[dict[str, Any]]) -> None:
    """Put documents on the topic and wait until all are there; DeploytrailError where one is not."""
    from confluent_kafka import Producer

    producer = Producer(producer_config(settings))
    failed: list[str] = []
    for value in documents:
        producer.produce(
            Topic.POLICIES.value,
            json.dumps(value, sort_keys=True, ensure_ascii=False).encode(),
            f"{value['kind']}/{value['name']}/{value['version']}".encode(),
            partition=0,
            on_delivery=lambda error, message: failed.extend(
                f"{message.key()!r}: {why}" for why in [why_undelivered(error, message)] if why
            ),
        )
    left = producer.flush(30)
    if left or failed:
        raise DeploytrailError(
            f"{counted(left + len(failed), 'document was', 'documents were')} not delivered; apply again. {failed[:1]}"
        )


def missing(changes: Iterable[Change], standing: PolicySet) -> list[str]:
    """Of applied changes, those that the topic does not have, or has with other content: somebody else was there."""
    lost = []
    for change in changes:
        document = change.source.document
        found = standing.versions.get((document.kind, document.name, change.version))
        if found is None or (found.text, found.effective_from) != (document.text, change.effective_from):
            lost.append(change.key)
    return lost
