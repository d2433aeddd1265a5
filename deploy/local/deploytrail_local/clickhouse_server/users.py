"""Who may ask what: ClickHouse's own users.xml, as far as a server in front of the library can hold it.

The library knows one user, so this is enforced before a query reaches it: passwords (SHA-256), the
profile's settings, its constraints on what a request may set, `readonly`, and quotas of queries and errors.
A user of a readonly profile cannot change settings in a query's own text either. Not enforced: grants
(the writer could drop a table), networks, and quotas of rows.
https://clickhouse.com/docs/operations/settings/settings-users
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_local.clickhouse_server.errors import RequestError
from deploytrail_local.clickhouse_server.queries import Query

_FAILED, _QUOTA, _CONSTRAINT = 516, 201, 452


class Headers(Protocol):
    """Of a request."""

    def get(self, name: str, default: str, /) -> str:
        """One of them."""


@dataclass(slots=True)
class Quota:
    """At most so many queries, and errors, within a time; counted back from now."""

    seconds: float
    queries: int  # 0: any number
    errors: int
    times: deque[float] = field(default_factory=deque)
    failures: deque[float] = field(default_factory=deque)

    def is_used_up(self, now: float) -> bool:
        """Whether another query would be one too many."""
        for times in (self.times, self.failures):
            while times and times[0] <= now - self.seconds:
                times.popleft()
        return bool(
            (self.queries and len(self.times) >= self.queries) or (self.errors and len(self.failures) >= self.errors)
        )


@dataclass(frozen=True, slots=True)
class User:
    """One user of the file."""

    name: str
    password_sha256: str  # empty: none is needed
    settings: dict[str, str]
    limits: dict[str, tuple[float, float]]  # what a request may set a setting to
    readonly: bool
    quotas: tuple[Quota, ...]


class Users:
    """All users; safe in threads."""

    def __init__(self, users: Mapping[str, User], clock: Callable[[], float] = time.monotonic) -> None:
        self._users, self._clock = dict(users), clock
        self._lock = threading.Lock()

    def admit(self, query: Query, url_query: str, headers: Headers) -> tuple[User, Query]:
        """The user of a request, and the query as he may run it; RequestError where he may not."""
        name, password = _credentials(url_query, headers)
        user = self._users.get(name)
        given = hashlib.sha256(password.encode()).hexdigest()
        if user is None or (user.password_sha256 and not hmac.compare_digest(given, user.password_sha256)):
            raise RequestError(
                401,
                _FAILED,
                f"{name}: Authentication failed: password is incorrect, or there is no user with such name.",
            )
        with self._lock:
            now = self._clock()
            for quota in user.quotas:
                if quota.is_used_up(now):
                    raise RequestError(
                        500,
                        _QUOTA,
                        f"Quota for user {name} for {quota.seconds:.0f}s has been exceeded. (QUOTA_EXCEEDED)",
                    )
            for quota in user.quotas:
                quota.times.append(now)
        return user, _restricted(user, query)

    def failed(self, user: User) -> None:
        """His query ended by an error."""
        with self._lock:
            for quota in user.quotas:
                quota.failures.append(self._clock())


def read_users(path: Path, environment: Mapping[str, str] = os.environ) -> Users:
    """The users of a file; ConfigurationError where it cannot be read, or a password is not in the environment."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigurationError(f"{path} cannot be read as users.xml: {error}") from error
    found = {}
    for element in root.iterfind("users/*"):
        profile = root.find(f"profiles/{element.findtext('profile', 'default')}")
        settings = {
            one.tag: one.text or "" for one in (*(profile if profile is not None else ()),) if one.tag != "constraints"
        }
        readonly = settings.pop("readonly", "0") != "0"
        intervals = root.iterfind(f"quotas/{element.findtext('quota', 'default')}/interval")
        found[element.tag] = User(
            element.tag,
            _password(element, path, environment),
            settings,
            _limits(profile),
            readonly,
            tuple(_quota(interval) for interval in intervals),
        )
    return Users(found)


def _password(user: ElementTree.Element, path: Path, environment: Mapping[str, str]) -> str:
    element = user.find("password_sha256_hex")
    if element is None:
        if user.find("no_password") is None and user.findtext("password", "") != "":
            raise ConfigurationError(f"{path}: {user.tag} has a password in plain text; expected password_sha256_hex")
        return ""
    variable = element.get("from_env")
    value = (environment.get(variable, "") if variable else element.text or "").strip().lower()
    if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        where = f"the environment variable {variable}" if variable else "password_sha256_hex"
        raise ConfigurationError(f"{path}: {where} of {user.tag} is no SHA-256; expected 64 hexadecimal digits")
    return value


def _limits(profile: ElementTree.Element | None) -> dict[str, tuple[float, float]]:
    constraints = profile.find("constraints") if profile is not None else None
    return {
        one.tag: (float(one.findtext("min", "-inf")), float(one.findtext("max", "inf")))
        for one in (constraints if constraints is not None else ())
        if one.find("const") is None
    }


def _quota(interval: ElementTree.Element) -> Quota:
    def number(name: str) -> int:
        return int(interval.findtext(name, "0"))

    return Quota(float(number("duration")), number("queries"), number("errors"))


def _restricted(user: User, query: Query) -> Query:
    for name, value in query.settings.items():
        low, high = user.limits.get(name, (float("-inf"), float("inf")))
        try:
            number = float(value)
        except ValueError:
            continue  # the engine says what is wrong with it
        if not low <= number <= high:
            raise RequestError(
                500,
                _CONSTRAINT,
                f"Setting {name} should be between {low:.0f} and {high:.0f}. (SETTING_CONSTRAINT_VIOLATION)",
            )
    # 1, not 2: settings in the text of a query could not be held to the constraints.
    readonly = "1" if user.readonly else query.readonly
    return replace(query, settings={**user.settings, **query.settings}, readonly=readonly)


def _credentials(url_query: str, headers: Headers) -> tuple[str, str]:
    given = dict(parse_qsl(url_query, keep_blank_values=True))
    if name := headers.get("X-ClickHouse-User", ""):
        return name, headers.get("X-ClickHouse-Key", "")
    scheme, _, text = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return name, password
    return given.get("user", "default"), given.get("password", "")
