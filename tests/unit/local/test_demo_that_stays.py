"""The demo that keeps running ends well by Ctrl-C, however early it comes."""

from __future__ import annotations

import io
import os
import signal
import sys

import pytest
from deploytrail_local.demo import _interrupt_once, _stay


class Impatient(io.StringIO):
    """A terminal whose reader presses Ctrl-C as soon as it is told of."""

    def write(self, text: str) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


@pytest.mark.timeout(10)
def test_ctrl_c_that_comes_while_it_is_told_of_is_the_good_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "stdout", Impatient())
    _interrupt_once()
    try:
        _stay("Ctrl-C stops everything.\n")
        now = signal.getsignal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert now is signal.SIG_IGN  # it came, and what comes while everything is stopped is not heard
