"""A report's page as PDF, where a browser is present: Chromium prints it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from deploytrail_schemas.errors import MissingDependencyError, RetryLater

from deploytrail_sinks.reports.whole_file import beside

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 300  # seconds


def browser() -> str:
    """The browser's path; MissingDependencyError where there is none."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise MissingDependencyError(
        f"no browser prints PDF here: install one of {', '.join(BROWSERS)}, or take --format html"
    )


def print_page(page: Path, output: Path) -> None:
    """Print an HTML file; RetryLater with the browser's last words where nothing came of it."""
    with tempfile.TemporaryDirectory() as profile:
        made = Path(profile) / "report.pdf"
        argv = [
            *(browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer"),
            *(f"--user-data-dir={profile}/profile", f"--print-to-pdf={made}", page.resolve().as_uri()),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if done.returncode or not made.is_file():
            raise RetryLater(f"{argv[0]} made no PDF (exit code {done.returncode}): {done.stderr.strip()[-300:]}")
        with beside(output) as path:
            path.write_bytes(made.read_bytes())
