"""Silences over Alertmanager's v2 API. Source: prometheus/alertmanager api/v2/openapi.yaml, /silences."""

from __future__ import annotations

import urllib.parse
from typing import Any

from deploytrail_schemas.errors import ConfigurationError, RetryLater

from deploytrail_sinks.http_json import Refused, request
from deploytrail_sinks.silences.mirror import CREATED_BY, Begin, marked


class Silences:
    """The silences that we have made in one Alertmanager."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"DEPLOYTRAIL_SILENCES_URL is {url!r}; expected http(s)://host:port")
        self._url = url.rstrip("/") + "/api/v2"

    def ours(self) -> dict[str, dict[str, Any]]:
        """Our silences by the signal that each is of, those included that have ended and are not forgotten yet.

        RetryLater where it does not answer.
        """
        found: dict[str, dict[str, Any]] = {}
        for one in request("GET", f"{self._url}/silences") or []:
            signal_id = marked(one["comment"]) if one["createdBy"] == CREATED_BY else ""
            if signal_id and (signal_id not in found or one["status"]["state"] != "expired"):
                found[signal_id] = one
        return found

    def put(self, silence: Begin, now: int) -> str:
        """Make a silence; its id. RetryLater, or Refused."""
        answer = request("POST", f"{self._url}/silences", silence.body(now))
        return str(answer["silenceID"])

    def end(self, silence_id: str) -> None:
        """End a silence; one that has ended, or is not known, stays so. RetryLater, or Refused."""
        address = f"{self._url}/silence/{urllib.parse.quote(silence_id)}"
        try:
            request("DELETE", address)
        except Refused as error:
            if error.status != 404:
                raise
        except RetryLater:
            # It answers 500 also to who ends what has ended.
            if self._state(address) != "expired":
                raise

    def _state(self, address: str) -> str:
        try:
            return str(request("GET", address)["status"]["state"])
        except Refused as error:
            if error.status == 404:
                return "expired"
            raise
