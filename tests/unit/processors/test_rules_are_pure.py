"""Rules read no clock, no environment, no file, no network."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RULES = ROOT / "stream_processors/deploytrail_processors/rules"
POLICIES = ROOT / "schemas/deploytrail_schemas/policies"  # what rules of several rooms share; only `topic` knows Kafka
PURE = sorted([*RULES.rglob("*.py"), *(path for path in POLICIES.rglob("*.py") if path.name != "topic.py")])
FORBIDDEN_MODULES = {"time", "os", "sys", "io", "socket", "random", "logging", "pathlib", "subprocess", "threading",
                     "asyncio", "secrets", "urllib", "http", "confluent_kafka", "aiokafka", "faust"}  # fmt: skip
FORBIDDEN_CALLS = {"now", "utcnow", "today", "open", "print", "input", "uuid1", "uuid4", "uuid7", "getenv"}


def impurities(source: str) -> set[str]:
    """What a module does that a rule must not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in FORBIDDEN_MODULES:
                found.add(node.module)
            found.update(a.name for a in node.names if a.name in FORBIDDEN_CALLS)
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in FORBIDDEN_CALLS:
                found.add(f"{name}()")
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_rule_is_pure(path: Path) -> None:
    assert impurities(path.read_text("utf-8")) == set()


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "from os import environ",
        "from datetime import datetime\nx = datetime.now()",
        "def f():\n    return open('x')",
        "import logging.handlers",
        "from deploytrail_schemas.ids import uuid7",
    ],
)
def test_an_impurity_is_seen(planted: str) -> None:
    assert impurities(planted)
