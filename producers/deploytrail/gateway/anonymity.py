"""Who needs no credential. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from deploytrail_schemas.errors import ConfigurationError

# A proxy on this host makes the whole world look local, and a browser posts wherever a page tells it to.
_FROM_ELSEWHERE = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-client-ip"),
    *("cf-connecting-ip", "true-client-ip", "x-envoy-external-address", "origin", "sec-fetch-site"),
)


class Anonymous(StrEnum):
    """The words of DEPLOYTRAIL_ANONYMOUS."""

    LOOPBACK = "loopback"
    ANYONE = "anyone"
    NOBODY = "nobody"


def read(text: str) -> Anonymous:
    """The setting's word; ConfigurationError for another."""
    try:
        return Anonymous(text)
    except ValueError:
        raise ConfigurationError(f"DEPLOYTRAIL_ANONYMOUS is {text!r}; expected {', '.join(Anonymous)}") from None


def is_allowed(anonymous: Anonymous, host: str, headers: Mapping[str, str], *, has_tokens: bool) -> bool:
    """Whether a request without a credential is taken. `headers` by lower-case name.

    `has_tokens`: whether this gateway knows any; then being on its host is no longer enough.
    """
    if anonymous is not Anonymous.LOOPBACK:
        return anonymous is Anonymous.ANYONE
    return not has_tokens and is_loopback(host) and not any(name in headers for name in _FROM_ELSEWHERE)


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether an address is of 127.0.0.0/8 or ::1, also written as IPv6."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
