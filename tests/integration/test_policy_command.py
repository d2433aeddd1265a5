"""`deploytrail policy`, as a process."""

from __future__ import annotations

from pathlib import Path

from deploytrail_local import ports
from support.commands import run


def test_a_kafka_that_is_away_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("kind: environment\nname: production\nspec: {production: true}\n")
    port = ports.free_port()
    done = run("policy", "apply", "all.yaml", env={"DEPLOYTRAIL_KAFKA": f"127.0.0.1:{port}"}, cwd=tmp_path)

    assert done.returncode == 69
    assert done.stderr.startswith(f"deploytrail policy: the policies cannot be read from Kafka at 127.0.0.1:{port}: ")
    assert done.stderr.endswith("; is DEPLOYTRAIL_KAFKA right, and does it run?\n")
    assert done.stderr.count("\n") == 1
