"""`make bench` runs what is asked for, or says what there is."""

from __future__ import annotations

import pytest
from benchmarks.__main__ import main


def test_a_benchmark_that_does_not_exist_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emit", "imports"]) == 64

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("there is no benchmark imports; there are adapters, ")
