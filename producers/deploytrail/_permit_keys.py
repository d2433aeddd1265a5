"""Whose permits are believed, as the settings say it: the keys are a file, or fetched from the gate."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.permits import Authority, PermitKeys, read_keys

if TYPE_CHECKING:
    from deploytrail_schemas.settings import Settings

TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 512 << 10
_LOCAL = ("localhost", "127.0.0.1", "::1")


def authority(settings: Settings) -> Authority:
    """Keys, issuer and audience.

    ConfigurationError where one is not set or wrong, RetryLater where the keys are away.
    """
    unset = [name for name in ("permit_keys", "permit_issuer", "permit_audience") if not getattr(settings, name)]
    if unset:
        names = ", ".join(f"DEPLOYTRAIL_{name.upper()}" for name in unset)
        unset_keys = if_not_set("permit_keys", settings.permit_keys)
        raise ConfigurationError(f"whose permits are believed? Set {names}{unset_keys}")
    return Authority(load(settings.permit_keys), settings.permit_issuer, settings.permit_audience)


def load(where: str) -> PermitKeys:
    """The keys of a file or of an https URL. ConfigurationError for what is no JWKS, RetryLater where it is away."""
    if "://" not in where:
        try:
            return read_keys(Path(where).read_bytes(), where)
        except OSError as error:
            raise ConfigurationError(f"the keys {where} cannot be read: {error.strerror or error}") from error
    parts = urlsplit(where)
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        raise ConfigurationError(f"the keys {where} would come over {parts.scheme}://; expected https:// or a file")
    try:
        return read_keys(_download(where), where)
    except (OSError, ValueError) as error:  # URLError is an OSError
        raise RetryLater(f"the keys {where} cannot be fetched: {error}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _download(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "deploytrail"})
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        data: bytes = answer.read(_MOST_BYTES + 1)
    return data
