"""What `deploytrail doctor` looks at on this host: Python, packages, settings, place, build, clock, spool."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from deploytrail_schemas.codec import decode_routing
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import PREFIX, Settings, variable

from deploytrail import _build_identity, _clock
from deploytrail._backlog import producers, read_delivered
from deploytrail._doctor_check import BROKEN, OK, WARNING, Check
from deploytrail._options import DEPLOYMENT_ID
from deploytrail._spool import DROPPABLE_SHARE, EVENT, Damage, frames, read_lost, segment_path, segments

_NEEDED = {"fastavro": "encode events", "confluent_kafka": "send to kafka://…"}
_PYTHON = (3, 11)
_GATEWAY = ("starlette", "uvicorn", "prometheus_client")
# Variables that are no settings: what the command tells its children.
_OTHERS = {DEPLOYMENT_ID}
# A spool that waits longer than this is not one whose sender will come by in a moment.
_OLD_SECONDS = 600
_EVENT_BYTES = 4096


def python() -> Iterator[Check]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _PYTHON:
        yield Check(BROKEN, "python", f"{version}; deploytrail needs 3.11", "install Python 3.11 or newer")
    elif not sys.platform.startswith("linux"):
        yield Check(WARNING, "python", f"{version} on {sys.platform}", "Linux is what deploytrail is tested on")
    else:
        yield Check(OK, "python", f"{version} on {sys.platform}")


def packages() -> Iterator[Check]:
    """What must be installed, and what some commands need."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    for name in missing:
        yield Check(BROKEN, "packages", f"{name} is missing, which is needed to {_NEEDED[name]}", f"pip install {name}")
    if missing:
        return
    lacking = [name for name in _GATEWAY if importlib.util.find_spec(name) is None]
    note = " (without the gateway: pip install 'deploytrail[gateway]' to serve one)" if lacking else ""
    yield Check(OK, "packages", f"all that reporting needs is installed{note}")


def readable(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment; those that cannot be read keep their defaults."""
    return Settings.load({name: text for name, text in environ.items() if name in _known() and not _wrong(name, text)})


def _known() -> dict[str, str]:
    return {variable(f.name): f.name for f in fields(Settings)}


def _wrong(name: str, text: str) -> str:
    try:
        Settings.load({name: text})
    except ConfigurationError as error:
        return str(error)
    return ""


def variables(environ: Mapping[str, str]) -> Iterator[Check]:
    """Settings that cannot be read, and variables that are none."""
    known = _known()
    given = sorted(name for name in environ if name.startswith(PREFIX))
    flawed = 0
    for name in given:
        if name not in known and name not in _OTHERS:
            flawed += 1
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            fix = f"did you mean {near[0]}?" if near else "remove it: no setting has this name"
            yield Check(WARNING, "settings", f"{name} is no setting, and says nothing", fix)
        elif name in known and (why := _wrong(name, environ[name])):
            flawed += 1
            yield Check(BROKEN, "settings", f"{why}; its default is used", f"correct {name}")
    try:
        RegionMap.from_settings(readable(environ))
    except ConfigurationError as error:
        flawed += 1
        yield Check(BROKEN, "settings", str(error), "correct it: events of a wrong map go to the wrong partition")
    if not flawed:
        yield Check(OK, "settings", f"{counted(len(given), 'variable')}, all of them known and readable")


def place(settings: Settings) -> Iterator[Check]:
    """Service, environment and region that stand in for what a call does not say."""
    missing = [name for name in ("service", "environment") if not getattr(settings, name)]
    said = ", ".join(f"{n} {getattr(settings, n)!r}" for n in ("service", "environment") if n not in missing)
    calls = f"; {' and '.join(missing)} must come from each call" if missing else ""
    yield Check(OK, "place", f"{said or 'nothing is set'}{calls}")
    try:
        regions = RegionMap.from_settings(settings)
    except ConfigurationError:
        return  # was said of the settings
    if not settings.region:
        fix = f"set DEPLOYTRAIL_REGION to one of {', '.join(regions.numbers)}, or give region in each call"
        yield Check(WARNING, "region", "none is set: events that name none go to 'other', partition 0", fix)
    elif not regions.knows(settings.region):
        near = difflib.get_close_matches(settings.region, regions.numbers, n=1)
        fix = f"did you mean {near[0]}? " if near else ""
        fix += "Or give it a partition in DEPLOYTRAIL_REGIONS, here and for processors"
        yield Check(WARNING, "region", f"{settings.region!r} has no partition: it shares partition 0 with others", fix)
    else:
        yield Check(OK, "region", f"{settings.region!r} is partition {regions.partition_of(settings.region)}")


def build(environ: Mapping[str, str]) -> Iterator[Check]:
    """What the CI system tells."""
    found = _build_identity.read(environ)
    if not found:
        yield Check(OK, "build", "no CI system is seen: builds are known by what each call says")
        return
    system = found.get("build_system", "a CI system")
    lacking = [name for name in ("build_id", "commit_sha", "repository", "ref") if not found.get(name)]
    if lacking:
        fix = f"give {', '.join(lacking)} in the call: this environment does not tell"
        yield Check(WARNING, "build", f"{system} is seen, without {', '.join(lacking)}", fix)
    else:
        yield Check(OK, "build", f"{system}, build {found['build_id']} of {found['commit_sha'][:12]}")


def target(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """The environment that the CI system says it deploys to, where it says so; beside the one that is set."""
    names = _build_identity.targets(environ)
    if not names:
        return
    said = settings.environment
    if said and not any(_build_identity.agree(said, name) for name in names):
        fix = "correct one of them: each deployment would be reported with a warning"
        yield Check(WARNING, "target", f"DEPLOYTRAIL_ENVIRONMENT is {said!r}, the build deploys to {names[0]!r}", fix)
    else:
        instead = "" if said else ", which is reported where a call names no environment"
        yield Check(OK, "target", f"the build deploys to {names[0]!r}{instead}")


def clock() -> Iterator[Check]:
    """Whether the kernel holds this clock for synchronised."""
    state = _clock.clock_state()
    if state == "synchronised":
        yield Check(OK, "clock", "synchronised")
    elif state == "unsynchronised":
        fix = "start chrony, systemd-timesyncd or ntpd; in a container: on its host"
        yield Check(WARNING, "clock", "not synchronised: times of events carry a wider uncertainty", fix)
    else:
        yield Check(WARNING, "clock", "the kernel does not tell whether it is synchronised", "see that it is")


def spool(settings: Settings) -> Iterator[Check]:
    """The folder in which events wait: whether it takes any, and what lies in it."""
    try:
        folder = settings.spool.expanduser()
        write_into(folder)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        fix = "let this user write there, or set DEPLOYTRAIL_SPOOL to a folder where it can"
        yield Check(BROKEN, "spool", f"{settings.spool} cannot be used: {why}", fix)
        return
    yield _room(folder, settings.spool_max_bytes)
    yield from _waiting(folder, settings)
    yield from _set_aside(folder)


def write_into(folder: Path) -> None:
    """See that this user can write there, and leave nothing behind; OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f".doctor-{os.getpid()}"
    try:
        with path.open("wb") as file:
            file.write(b"x" * _EVENT_BYTES)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _room(folder: Path, limit: int) -> Check:
    used = sum(path.stat().st_size for path in folder.glob("*/*.segment"))
    free = shutil.disk_usage(folder).free
    said = f"{folder} holds {size(used)} of {size(limit)}; {size(free)} are free on its disk"
    more = "see what is said of the connection: delivery makes room. Or raise DEPLOYTRAIL_SPOOL_MAX_BYTES"
    if used + _EVENT_BYTES > limit:
        return Check(BROKEN, "spool", f"full: {said}; events are lost", more)
    if used > limit * DROPPABLE_SHARE:
        return Check(WARNING, "spool", f"nearly full: {said}; progress is dropped", more)
    if free < limit - used:
        return Check(WARNING, "spool", f"{said}, less than it may grow by", "free some, or lower the limit")
    return Check(OK, "spool", said)


def _waiting(folder: Path, settings: Settings) -> Iterator[Check]:
    count = damaged = lost = 0
    oldest: int | None = None
    for producer in producers(folder):
        lost += read_lost(str(producer))[1]
        position, _ = read_delivered(producer)
        for first in segments(str(producer)):
            if first < position.segment:
                continue
            data = Path(segment_path(str(producer), first)).read_bytes()
            for found in frames(data, position.offset if first == position.segment else 0):
                if isinstance(found, Damage):
                    damaged += not found.tail
                elif found.kind == EVENT:
                    count += 1
                    oldest = min(filter(None, (oldest, _occurred_at(found.payload))), default=None)
    if damaged:
        fix = f"nothing to do: the sender goes on behind, and keeps the bytes in {folder}/damaged; look at the disk"
        yield Check(
            WARNING,
            "spool damage",
            counted(damaged, "stretch of the spool is no event", "stretches of the spool are no events"),
            fix,
        )
    if lost:
        fix = "they are gone, their numbers show the gap: make room before it happens again"
        yield Check(WARNING, "spool losses", f"{counted(lost, 'event')} found no room here", fix)
    age = (time.time_ns() // 1000 - oldest) / 1e6 if oldest else 0.0
    waiting = f"{counted(count, 'event waits', 'events wait')}, the oldest for {_age(age)}"
    if not count:
        yield Check(OK, "waiting", "no event waits for delivery")
    elif not settings.url:
        yield Check(WARNING, "waiting", waiting, "set DEPLOYTRAIL_URL")
    elif age > _OLD_SECONDS:
        fix = "see what is said of the connection; then deploytrail progress, or any next event, sends them"
        yield Check(WARNING, "waiting", waiting, fix)
    else:
        yield Check(OK, "waiting", waiting)


def _set_aside(folder: Path) -> Iterator[Check]:
    kept = sorted((folder / "damaged").glob("*.bin"))
    if kept:
        fix = "look at the disk; the files may be removed once nobody needs the bytes"
        yield Check(
            WARNING,
            "damaged",
            f"{counted(len(kept), 'damaged stretch is', 'damaged stretches are')} kept in {folder}/damaged",
            fix,
        )
    refused = folder / "rejected.jsonl"
    if refused.exists():
        lines = refused.read_bytes().splitlines()
        fix = "the lines say why; mend what sends them, then remove the file"
        yield Check(
            WARNING,
            "rejected",
            f"{counted(len(lines), 'refused event is', 'refused events are')} kept in {refused}",
            fix,
        )


def _occurred_at(payload: bytes) -> int | None:
    try:
        return int(decode_routing(payload)[1]["occurred_at"])
    except (DeploytrailError, KeyError):
        return None


def size(count: int) -> str:
    """A number of bytes, for people."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return counted(count, "byte")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return counted(round(max(seconds, 0)), "second")
