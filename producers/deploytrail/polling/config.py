"""The file DEPLOYTRAIL_POLL: whom to ask, how often, and for which projects. Pure but for reading it.

sources:
  - kind: github
    token_env: GITHUB_TOKEN          # the variable that holds the token, never the token
    projects: [acme/checkout, acme/search]
    every: 60                        # seconds between two rounds
    region: eu-west-1                # what payloads do not say, as in a webhook's URL
  - {kind: gitlab, url: https://gitlab.example.com, token_env: GITLAB_TOKEN, projects: [acme/checkout]}
  - {kind: argocd, url: https://argocd.example.com, token_env: ARGOCD_TOKEN}
  - {kind: jenkins, url: https://ci.example.com, token_env: JENKINS_AUTH, projects: [deploy/checkout]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from deploytrail_schemas.errors import ConfigurationError

from deploytrail.adapters.base import Defaults

# Kinds, and where their API is by default.
KINDS = {"github": "https://api.github.com", "gitlab": "https://gitlab.com", "argocd": "", "jenkins": ""}
_SECONDS = ("every", "overlap", "lookback", "open_for", "settle")
_FIELDS = {*("kind", "url", "token_env", "projects", "region", "environment", "service", "options"), *_SECONDS}


@dataclass(frozen=True, slots=True)
class Watched:
    """One source. All in seconds: between two rounds (`every`), how far each looks back behind the last
    (`overlap`) and the first one does (`lookback`), for how long something unfinished is asked for again
    (`open_for`), and how long webhooks have before a poll tells instead (`settle`)."""

    kind: str
    url: str
    token_env: str
    projects: tuple[str, ...]
    every: float = 60.0
    overlap: float = 900.0
    lookback: float = 86_400.0
    open_for: float = 14 * 86_400.0
    settle: float = 30.0
    defaults: Defaults = Defaults()

    @property
    def name(self) -> str:
        """Names it in metrics and in the memory: kind and host."""
        return f"{self.kind}:{urlsplit(self.url).netloc}"


def load(path: Path) -> tuple[Watched, ...]:
    """The sources of a file; ConfigurationError where it cannot be read, or with all that is wrong in it."""
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"DEPLOYTRAIL_POLL: {path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())  # of several lines
        raise ConfigurationError(f"DEPLOYTRAIL_POLL: {path} is no YAML: {said}") from error
    return read(value)


def read(value: object) -> tuple[Watched, ...]:
    """The sources of a loaded file."""
    given = value.get("sources") if isinstance(value, Mapping) and value.keys() == {"sources"} else None
    if not isinstance(given, list) or not given:
        raise ConfigurationError("DEPLOYTRAIL_POLL: expected sources: [{kind: …, projects: […]}, …] and nothing else")
    wrong: list[str] = []
    found = [_watched(item, f"sources[{index}]", wrong) for index, item in enumerate(given)]
    if wrong:
        raise ConfigurationError("DEPLOYTRAIL_POLL: " + "; ".join(wrong))
    return tuple(found)


def _watched(item: object, where: str, wrong: list[str]) -> Watched:
    given: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
    wrong.extend(f"{where} has no field {name!r}" for name in given if name not in _FIELDS)
    kind = str(given.get("kind", ""))
    if kind not in KINDS:
        wrong.append(f"{where}.kind is {kind!r}; expected one of {', '.join(KINDS)}")
    url = str(given.get("url") or KINDS.get(kind, "")).rstrip("/")
    if urlsplit(url).scheme not in ("https", "http") or not urlsplit(url).hostname:
        wrong.append(f"{where}.url is {url!r}; expected https://…")
    if "@" in urlsplit(url).netloc:
        wrong.append(f"{where}.url holds a credential: put it into the variable that token_env names")
    projects = given.get("projects", ["*"] if kind == "argocd" else [])
    if not isinstance(projects, list) or not projects or not all(isinstance(p, str) and p for p in projects):
        wrong.append(f"{where}.projects is missing; expected a list of names")
        projects = []
    numbers = {name: _seconds(given, name, where, wrong) for name in _SECONDS}
    return Watched(
        kind=kind,
        url=url,
        token_env=str(given.get("token_env", "")),
        projects=tuple(projects),
        defaults=Defaults(
            region=str(given.get("region", "")),
            environment=str(given.get("environment", "")),
            service=str(given.get("service", "")),
            options=_options(given, where, wrong),
        ),
        **{name: number for name, number in numbers.items() if number is not None},
    )


def _options(given: Mapping[str, Any], where: str, wrong: list[str]) -> dict[str, str]:
    value = given.get("options", {})
    if isinstance(value, Mapping):
        return {str(name): str(text) for name, text in value.items()}
    wrong.append(f"{where}.options is {value!r}; expected what the webhook's URL says beside the place, name: text")
    return {}


def _seconds(given: Mapping[str, Any], name: str, where: str, wrong: list[str]) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    wrong.append(f"{where}.{name} is {value!r}; expected seconds")
    return None
