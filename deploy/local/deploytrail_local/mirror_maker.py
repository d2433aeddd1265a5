"""MirrorMaker 2 from its jars: one process that mirrors topics of clusters into another one.

In: a properties file, such as `deploy/kafka/mirror.properties`, and the environment that it names. A mirror holds no
data: where it stands is in the cluster that it writes to, so that it can be killed and started anywhere.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from deploytrail_local import processes
from deploytrail_local.java import find_java
from deploytrail_local.kafka_broker import Progress, quiet, resolve_mirror_jars

_MAIN = "org.apache.kafka.connect.mirror.MirrorMaker"


class MirrorMaker:
    """One mirror; a context manager stops it. MissingDependencyError without Java or jars."""

    def __init__(self, folder: Path, properties: Path, env: Mapping[str, str], *, progress: Progress = quiet) -> None:
        self.log = folder.absolute() / "mirror.log"
        self._properties, self._env, self._progress = properties.absolute(), env, progress
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> MirrorMaker:
        """Start it. What it does is seen in the topics that it makes; it opens no port."""
        command = [
            str(find_java()),
            *("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
            "-Djava.net.preferIPv4Stack=true",
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
            *("-cp", os.pathsep.join(map(str, resolve_mirror_jars(self._progress)))),
            *(_MAIN, str(self._properties)),
        ]
        self.process = processes.spawn(command, log=self.log, env={**os.environ, "LC_ALL": "C.UTF-8", **self._env})
        return self

    def kill(self) -> None:
        """SIGKILL, and wait."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it; it goes on where it was when it starts again."""
        if self.process is not None:
            processes.stop(self.process)
            self.process = None

    def __enter__(self) -> MirrorMaker:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
