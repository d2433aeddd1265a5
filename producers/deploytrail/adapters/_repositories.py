"""Addresses of Git repositories as sources write them."""

from __future__ import annotations

import re

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)
# scheme://user:secret@host:port/path, or user@host:path
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://[^/]*/|[^/@:]+@[^/:]+:)?(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)


def repository_of(address: str) -> str:
    """`acme/shop` of https://token@git.example/acme/shop.git, git@git.example:acme/shop.git and the like.

    Host and credentials are left out. A name that is no address stays as it is.
    """
    found = _ADDRESS.fullmatch(address.strip())
    path = found[1] if found else ""
    return path.partition("?")[0].strip("/").removesuffix(".git")


def commit_in(revision: str) -> str:
    """The revision where it is a whole commit hash, else ""."""
    return revision if _COMMIT.fullmatch(revision) else ""
