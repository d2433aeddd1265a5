"""The key by which the embedded stack's gate signs its permits: made at the first start, and kept."""

from __future__ import annotations

import base64
import os
from pathlib import Path

# What stands before the 32 bytes of an Ed25519 private key in PKCS 8 (RFC 8410, 10.3).
_PKCS_8 = bytes.fromhex("302e020100300506032b657004220420")


def ensure_gate_key(folder: Path) -> None:
    """Make a key where the folder has none: `first.pem`, readable by its owner alone."""
    if any(folder.glob("*.pem")):
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = base64.b64encode(_PKCS_8 + os.urandom(32)).decode()
    fresh = folder / "first.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        file.write(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(folder / "first.pem")
