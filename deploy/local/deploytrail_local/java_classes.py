"""Kafka's classes as Java keeps them once they are read: a start takes about a third less time and work.

In: a Java and a class path. Out: an archive of classes in the user's cache, which Java maps into memory instead of
reading, verifying and linking each class anew. It is made by a program that ends by itself anyhow; where it cannot be
made or does not fit, Java starts as it does without. https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploytrail_local.jars import cache_folder

_ABANDONED_SECONDS = 3600.0


class ClassArchive:
    """The archive of one Java's classes on one class path; another Java or other jars have another one."""

    def __init__(self, java: Path, classpath: str, environ: Mapping[str, str] = os.environ) -> None:
        self.file = cache_folder(environ) / f"kafka-{_key(java, classpath)}.jsa"

    @property
    def use(self) -> list[str]:
        """Options of a Java that starts with it; none where it is not there."""
        # Quiet about an archive that does not fit: its complaint would stand in the middle of what a program says.
        options = ["-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off", f"-XX:SharedArchiveFile={self.file}"]
        return options if self.file.exists() else []

    @contextmanager
    def made_by(self) -> Iterator[list[str]]:
        """Options of a program that makes it as it ends, or uses it where it is there.

        The archive appears whole, whoever else makes one meanwhile. No options where the cache cannot be written.
        """
        if self.use:
            yield self.use
            return
        part = self.file.with_name(f"{self.file.name}.{uuid.uuid4().hex}.part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            yield []
            return
        self._clear()
        try:
            yield [f"-XX:ArchiveClassesAtExit={part}"]
            with contextlib.suppress(OSError):  # no space, perhaps: Java has said so, and ends well all the same
                part.replace(self.file)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what programs that were interrupted have left of archives: Java writes on when its caller is gone."""
        for left in self.file.parent.glob("kafka-*.part"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink()


def _key(java: Path, classpath: str) -> str:
    program = java.resolve()
    words = (str(program), str(program.stat().st_mtime_ns), classpath)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
