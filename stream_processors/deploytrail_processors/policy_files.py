"""Policy files read: the documents of YAML files and folders, and every problem with its file and line.

What YAML would take in silence is refused: a key that stands twice, a name or an alias that stands twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from deploytrail_schemas.policies.alias import plain

from deploytrail_processors.policy_changes import Source
from deploytrail_processors.rules.policies import ChangeWindow, PolicySet, Problem, read_document

SUFFIXES = (".yaml", ".yml")
MAX_CALENDAR = 512 << 10  # bytes; a message may have 1 MiB


def read_files(paths: Iterable[Path]) -> tuple[list[Source], list[str]]:
    """The documents of files and folders (*.yaml, *.yml), and every problem as `file:line: …`."""
    sources: list[Source] = []
    problems: list[str] = []
    for path in _files(paths, problems):
        try:
            for node, value in _documents(path.read_text("utf-8")):
                value, problem = with_calendar_text(value, path)
                if problem:
                    problems.append(f"{path}:{_line_of(node, Problem('spec.file', ''))}: {problem}")
                    continue
                document = read_document(value)
                sources.append(Source(path, node.start_mark.line + 1, value, document, _lines_of(node)))
                problems.extend(f"{path}:{_line_of(node, p)}: {p}" for p in document.problems)
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"{mark.line + 1}: " if mark else " "
            problems.append(f"{path}:{line}no YAML: {getattr(error, 'problem', None) or error}")
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
        name = (source.document.kind, source.document.name)
        if name in seen:
            first = seen[name]
            problems.append(
                f"{source.path}:{source.line}: {'/'.join(name)} stands already in {first.path}:{first.line}"
            )
        seen[name] = source
    problems.extend(_repeated_aliases(sources))
    return sources, problems


def _repeated_aliases(sources: list[Source]) -> Iterator[str]:
    """An alias that two documents of a kind claim: which of them it means would be chance."""
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
        kind, name = source.document.kind, source.document.name
        for alias in sorted({plain(text) for text in (name, *getattr(source.document.spec, "aliases", ()))}):
            first = seen.setdefault((kind, alias), source)
            if first.document.name != name:
                yield f"{source.path}:{source.line}: the {kind} name {alias!r} is also of {first.place}"


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
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
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


def _lines_of(node: yaml.Node, path: str = "") -> dict[str, int]:
    """The line of each field, by its dotted path."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        inner = f"{path}.{key.value}" if path else str(key.value)
        lines |= {inner: key.start_mark.line + 1} | _lines_of(value, inner)
    return lines


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
