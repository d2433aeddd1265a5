"""A file that is there whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path in the same folder to write to; what was written takes the name `path` when all went well, and goes
    otherwise. What is no file (a pipe, a terminal) is written to as it is. An OSError names what was asked for."""
    if path.exists() and not path.is_file():
        try:
            yield path
        except OSError as error:
            raise _named(error, path) from error
        return
    path = path.resolve()  # what a link leads to is replaced, not the link
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _named(error, path) from error
    made = Path(name)
    try:
        yield made
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        made.chmod(0o666 & ~_umask())
        made.replace(path)
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)) == made:  # what a full disk says names no file
            raise _named(error, path) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            made.unlink()


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, f"cannot write the report: {error.strerror}", str(path))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
