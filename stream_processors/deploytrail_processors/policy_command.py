"""`deploytrail policy check|apply|explain PATH…`: policy files from git to the policies topic."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.rules.policies import ChangeWindow, Document, PolicySet, Problem, read_document

EXIT_INVALID = 65  # EX_DATAERR of sysexits.h
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE
MAX_CALENDAR = 512 << 10  # bytes; a message may have 1 MiB


@dataclass(frozen=True, slots=True)
class Source:
    """One document of a file."""

    path: Path
    line: int
    value: Any
    document: Document


def main(argv: list[str]) -> int:
    """Exit code 0; 65 where a file is invalid; 69 where Kafka does not answer."""
    parser = argparse.ArgumentParser(prog="deploytrail policy", description="Check and apply policy files.")
    words = parser.add_subparsers(dest="word", required=True)
    for word, text in (
        ("check", "say every problem of the files"),
        ("apply", "put changed documents on the policies topic, all files or none"),
        ("explain", "say in words what the documents mean"),
    ):
        words.add_parser(word, help=text).add_argument("paths", nargs="+", type=Path, metavar="PATH")
    options = parser.parse_args(argv)
    sources, problems = read_files(options.paths)
    if problems:
        return _refuse(problems)
    try:
        return {"check": _check, "apply": _apply, "explain": _explain}[options.word](sources)
    except DeploytrailError as error:
        print(f"deploytrail policy: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE


def _refuse(problems: list[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems; nothing was applied", file=sys.stderr)
    return EXIT_INVALID


def read_files(paths: Iterable[Path]) -> tuple[list[Source], list[str]]:
    """The documents of files and folders (*.yaml, *.yml), and every problem as `file:line: …`."""
    sources: list[Source] = []
    problems: list[str] = []
    for path in _files(paths, problems):
        try:
            loaded = list(_documents(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path}: {error}")
            continue
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"{mark.line + 1}: " if mark else " "
            problems.append(f"{path}:{line}{getattr(error, 'problem', None) or error}")
            continue
        for node, value in loaded:
            value, problem = with_calendar_text(value, path)
            if problem:
                problems.append(f"{path}:{_line_of(node, Problem('spec.file', ''))}: {problem}")
                continue
            document = read_document(value)
            sources.append(Source(path, node.start_mark.line + 1, value, document))
            problems.extend(f"{path}:{_line_of(node, p)}: {p}" for p in document.problems)
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
        name = (source.document.kind, source.document.name)
        if name in seen:
            first = seen[name]
            problems.append(
                f"{source.path}:{source.line}: {'/'.join(name)} stands already in {first.path}:{first.line}"
            )
        seen[name] = source
    return sources, problems


def with_calendar_text(value: Any, path: Path) -> tuple[Any, str]:
    """A calendar with the text of its .ics file in the file's place, so that the document is complete by itself.

    Other documents come back as they are; with a second text: what is wrong.
    """
    spec = value.get("spec") if isinstance(value, dict) and value.get("kind") == "calendar" else None
    if not isinstance(spec, dict) or "file" not in spec:
        return value, ""
    name = spec["file"]
    if not isinstance(name, str) or not name.endswith(".ics") or Path(name).is_absolute() or ".." in Path(name).parts:
        return value, f"spec.file: is {name!r}; expected the name of an .ics file beside this one"
    if "ics" in spec:
        return value, "spec.file: stands beside ics; expected one of them"
    try:
        text = (path.parent / name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return value, f"spec.file: {name} cannot be read: {getattr(error, 'strerror', None) or error}"
    if len(text.encode()) > MAX_CALENDAR:
        return value, f"spec.file: {name} has more than {MAX_CALENDAR} bytes; expected fewer, such as the years to come"
    return value | {"spec": {**{k: v for k, v in spec.items() if k != "file"}, "ics": text}}, ""


def missing_calendars(sources: Iterable[Source], standing: PolicySet) -> list[str]:
    """Windows that leave out a calendar which is neither in the files nor on the topic."""
    sources = list(sources)
    given = {s.document.name for s in sources if s.document.kind == "calendar"}
    return [
        f"{source.path}:{source.line}: spec.except: {name!r} is no calendar here; the window would stay closed"
        for source in sources
        if isinstance(source.document.spec, ChangeWindow)
        for name in source.document.spec.calendars
        if name not in given and standing.latest("calendar", name) is None
    ]


def _files(paths: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml"))
            if not found:
                problems.append(f"{path}: holds no *.yaml file")
            yield from found
        else:
            yield path


def _documents(text: str) -> Iterator[tuple[yaml.Node, Any]]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            _refuse_repeated_keys(node)
            yield node, _plain(loader.construct_document(node))
    finally:
        loader.dispose()


def _refuse_repeated_keys(node: yaml.Node) -> None:
    # YAML takes the last of two equal keys in silence; a policy must not lose half of itself.
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    for child in children:
        _refuse_repeated_keys(child)


def _plain(value: Any) -> Any:
    """YAML's own times as the texts that JSON carries."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return text.replace("+00:00", "Z").removesuffix(":00") if getattr(value, "tzinfo", None) is None else text
    return value


def _line_of(node: yaml.Node, problem: Problem) -> int:
    """The line of the field that a problem names, as near as the file has it."""
    for part in problem.path.split("."):
        if not isinstance(node, yaml.MappingNode):
            break
        inner = {key.value: (key, value) for key, value in node.value}
        if part not in inner:
            break
        key, node = inner[part]
        line: int = key.start_mark.line + 1
        node.start_mark.line = line - 1
    return int(node.start_mark.line) + 1


def _check(sources: list[Source]) -> int:
    problems = missing_calendars(sources, PolicySet())
    if problems:
        return _refuse(problems)
    print(f"{len(sources)} documents, no problem")
    return 0


def _explain(sources: list[Source]) -> int:
    for source in sources:
        document = source.document
        since = f", from {format_instant(document.effective_from)}" if document.effective_from else ""
        print(f"{document.kind}/{document.name}{since}: {document.spec}")
    return 0


def _apply(sources: list[Source]) -> int:
    settings = Settings.load()
    reader = PolicyReader(settings)
    try:
        standing = reader.read_to_end()
    finally:
        reader.close()
    problems = missing_calendars(sources, standing)
    if problems:
        return _refuse(problems)
    changed = list(changes(sources, standing, now=time.time_ns() // 1000))
    publish(settings, changed)
    for value in changed:
        print(f"{value['kind']}/{value['name']}/{value['version']} from {value['effective_from']}")
    print(f"{len(changed)} of {len(sources)} documents changed")
    return 0


def changes(sources: list[Source], standing: PolicySet, *, now: int) -> Iterator[dict[str, Any]]:
    """The documents that differ from the newest version of their name, with their next version.

    A document that does not say from when it holds takes effect at `now`.
    """
    for source in sources:
        document = source.document
        latest = standing.latest(document.kind, document.name)
        asked_from = document.effective_from if "effective_from" in source.value else None
        if (
            latest is not None
            and latest.spec is not None
            and latest.text == document.text
            and asked_from in (None, latest.effective_from)
        ):
            continue
        yield {
            "kind": document.kind,
            "name": document.name,
            "version": latest.version + 1 if latest else 1,
            "effective_from": format_instant(asked_from if asked_from is not None else now),
            "spec": source.value["spec"],
        }


def publish(settings: Settings, documents: list[dict[str, Any]]) -> None:
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
            on_delivery=lambda error, message: failed.append(f"{message.key()!r}: {error}") if error else None,
        )
    left = producer.flush(30)
    if left or failed:
        raise DeploytrailError(f"{left + len(failed)} documents were not delivered; apply again. {failed[:1]}")
