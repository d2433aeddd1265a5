"""A real Alertmanager of Debian's package, for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deploytrail_local import ports

from support.kafka import wait_for


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """Its URL, with a configuration; the test skips where it is not installed."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("prometheus-alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)")
    (folder / "alertmanager.yml").write_text(config)
    port = ports.free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: ports.answers(port), what="Alertmanager")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
