"""A log of the archive as its operator has it: keys, a trust file, settings, and processes."""

from __future__ import annotations

import time
from pathlib import Path

from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.store import LocalFolder

from support.commands import Command, run

ORIGIN = "example.com/archive"


class LogProcesses:
    """The keys, the trust file and the settings of a log in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"DEPLOYTRAIL_ARCHIVE": f"file:{folder / 'archive'}"}
        self.store = LocalFolder(folder / "archive")
        self.keys = {
            "sequencer": self.keygen(f"{ORIGIN}/sequencer", "sequencer"),
            "log": self.keygen(ORIGIN, "log"),
            "w1": self.keygen("w1.example.com", "w1", "witness"),
            "w2": self.keygen("w2.example.com", "w2", "witness-mldsa44"),
        }
        self.env |= {
            "DEPLOYTRAIL_ARCHIVE_ORIGIN": ORIGIN,
            "DEPLOYTRAIL_ARCHIVE_SEQUENCER_KEY": str(folder / "sequencer.key"),
            "DEPLOYTRAIL_ARCHIVE_SIGNER_KEYS": str(folder / "log.key"),
            "DEPLOYTRAIL_ARCHIVE_SIGNER_FOLDER": str(folder / "signer"),
            "DEPLOYTRAIL_ARCHIVE_TRUST": str(folder / "trust"),
            "DEPLOYTRAIL_ARCHIVE_LOG_SECONDS": "0.05",
        }

    def keygen(self, name: str, file: str, kind: str = "log") -> str:
        done = run("archive", "keygen", name, f"{file}.key", "--kind", kind, env=self.env, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def trust(self, urls: dict[str, str]) -> None:
        lines = [f"log {self.keys['log']}", f"#sequencer {self.keys['sequencer']}"]
        lines += [f"witness {name} {self.keys[name]} {url}" for name, url in urls.items()]
        lines += [f"group all all {' '.join(urls)}", "quorum all"] if urls else ["quorum none"]
        (self.folder / "trust").write_text("".join(f"{line}\n" for line in lines))

    def command(self, word: str, *arguments: str) -> Command:
        return Command("archive", word, *arguments, env=self.env, cwd=self.folder)

    def covered(self) -> int:
        try:
            return open_checkpoint(self.store.newest(CHECKPOINT))[0].size
        except KeyError:
            return 0

    def wait_covered(self, size: int, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while self.covered() < size:
            assert time.monotonic() < end, f"{self.covered()} of {size} entries are published"
            time.sleep(0.02)

    def verify(self) -> str:
        done = run("archive", "verify", "--trust", "trust", env=self.env, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
