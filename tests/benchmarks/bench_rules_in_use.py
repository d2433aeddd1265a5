"""What every rule costs as the apps call it: microseconds a call, over the story that has something for each app."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from deploytrail_processors import rules
from deploytrail_processors.apps.base import Handler
from deploytrail_processors.replay_command import makers
from deploytrail_schemas.settings import Settings
from support.apps import Handled
from support.story import APPS, POLICIES, tell
from yaml import safe_load_all

LIVES, QUICK = 60, 5
Times = dict[str, list[float]]


def run() -> list[tuple[str, str]]:
    """Each public function of a rule that an app calls: how often, and how long a call takes, with what it calls."""
    times: Times = defaultdict(list)
    policies = list(safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")))
    made = makers(APPS, Settings())
    with _timed(times):
        for make in made.values():
            _tell(make, policies)
    rows, quick = [], []
    for name, taken in sorted(times.items()):
        taken.sort()
        mean, median = sum(taken) / len(taken), taken[len(taken) // 2]
        if mean < QUICK:
            quick.append(name)
        else:
            rows.append((name, f"{mean:.0f} µs, median {median:.0f}, {len(taken):,} calls"))
    rows.append((f"below {QUICK} µs", f"{len(quick)} others"))
    elsewhere = sorted({module for module, _ in _functions()} - {name.partition(".")[0] for name in times})
    return [*rows, ("called by no app over the trail", ", ".join(elsewhere))]


def _tell(make: Callable[[Any], Handler], policies: list[dict[str, Any]]) -> None:
    handled = Handled(make, policies)
    for _, kind, value in tell(LIVES, 1):
        handled.handle(kind, value)


def _functions() -> Iterator[tuple[str, Any]]:
    for found in pkgutil.iter_modules(rules.__path__):
        if not found.ispkg:
            yield found.name, importlib.import_module(f"{rules.__name__}.{found.name}")


@contextmanager
def _timed(times: Times) -> Iterator[None]:
    """Apps call rules by their modules, so a function that stands in a module's place of it is what they call."""
    kept = []
    for module_name, module in _functions():
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_public = function.__module__ == module.__name__ and not name.startswith("_")
            if is_public and not inspect.isgeneratorfunction(function):
                kept.append((module, name, function))
                setattr(module, name, _clocked(function, times[f"{module_name}.{name}"]))
    try:
        yield
    finally:
        for module, name, function in kept:
            setattr(module, name, function)
        for name in [name for name, taken in times.items() if not taken]:
            del times[name]


def _clocked(function: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            taken.append((time.perf_counter() - began) * 1e6)

    return call
