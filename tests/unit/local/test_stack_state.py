"""What a stack leaves in its folder is read as it was written, and damage is named."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from deploytrail_local.process_identity import ProcessIdentity
from deploytrail_local.stack_state import ChildStatus, Phase, StackState, is_held, only_one, read_state, write_state
from deploytrail_schemas.errors import ConfigurationError

STATE = StackState(
    phase=Phase.READY,
    ports={"kafka": 20_001},
    settings={"DEPLOYTRAIL_KAFKA": "127.0.0.1:20001"},
    supervisor=ProcessIdentity(12, "345"),
    children=(
        ChildStatus("kafka", ProcessIdentity(13, "346"), 2, "logs/kafka.log"),
        ChildStatus("gateway", None, 0, "logs/gateway.log"),
    ),
)


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)

    assert read_state(tmp_path) == STATE


def test_state_is_for_its_owner_only(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)

    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_folder_without_a_stack_has_an_empty_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) == StackState(phase=Phase.STOPPED)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"phase": "asleep"}'])
def test_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)

    with pytest.raises(ConfigurationError, match=r"stack\.json.*delete it"):
        read_state(tmp_path)


def test_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path) as first, only_one(tmp_path) as second:
        held = is_held(tmp_path)

    assert (first, second, held) == (True, False, True)
    assert not is_held(tmp_path)


def test_process_with_a_used_again_id_is_another_one() -> None:
    mine = ProcessIdentity.of(os.getpid())
    before_me = ProcessIdentity(mine.pid, "1")

    assert mine.is_running()
    assert not before_me.is_running()
