"""What the loops of sequencer and signer say of what they refuse."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from deploytrail_schemas import logs
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.archive.log import running
from deploytrail_sinks.archive.log.signer import SigningRefused


@pytest.fixture
def signals() -> Iterator[None]:
    """Those of the tests' own process, as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_each_refusal_is_said_once_also_one_of_the_same_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "configure", lambda _: None)
    said = [
        *[SigningRefused("one")] * 3,
        *[SigningRefused("two")] * 2,
        *[RetryLater("two")] * 2,
        None,
        *[RetryLater("two")],
    ]

    def work() -> bool:
        if not said:
            os.kill(os.getpid(), signal.SIGTERM)
            return True
        error = said.pop(0)
        if error is not None:
            raise error
        return True

    settings = replace(Settings(), archive_log_seconds=0.001, metrics_port=0)
    with caplog.at_level(logging.ERROR):
        assert running._until_stopped("sign", work, settings, once=False) == 0

    assert [message.partition(";")[0] for message in caplog.messages] == ["one", "two", "two"]
