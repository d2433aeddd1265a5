"""Run every benchmark, or those whose names are given, and print what each measured as a table."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Exit status 1 when a benchmark could not be run, 64 for a name of none; a missed target is printed, no error."""
    every = sorted(path.stem for path in HERE.glob("bench_*.py"))
    known = [name.removeprefix("bench_") for name in every]
    if unknown := [name for name in names if name not in known]:
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 64  # EX_USAGE of sysexits.h
    chosen = [name for name in every if not names or name.removeprefix("bench_") in names]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    failed = 0
    for name in chosen:
        began = time.monotonic()
        print(f"\n{name.removeprefix('bench_')}")
        try:
            rows = importlib.import_module(f"benchmarks.{name}").run()
        except Exception:
            traceback.print_exc()
            failed = 1
            continue
        width = max(len(what) for what, _ in rows)
        for what, figure in rows:
            print(f"  {what:<{width}}  {figure}")
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
