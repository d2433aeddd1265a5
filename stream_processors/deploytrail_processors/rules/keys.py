"""Several names as one text, from which no other names could have been made."""

from __future__ import annotations


def joined(*names: str) -> str:
    """Names with a slash between them. Slashes of their own, as environments (`review/branch`), services (`team/shop`)
    and parts of regions have, are written as in a URL, so that two lists of as many names never meet."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)
