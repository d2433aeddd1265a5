"""Who deployed what, as records tell it: findings name a deployment, but not its people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("deployer", "team", "tier", "kind")
# So many deployments of late are known.
_MOST = 20_000


class People:
    """Deployer, team, tier and kind by deployment; the ones heard of last are kept."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}

    def learn(self, record: Mapping[str, Any]) -> None:
        """Take what a Record says."""
        known = self._known.pop(record["deployment_id"], {})
        self._known[record["deployment_id"]] = known | {name: record[name] for name in _NAMES if record[name]}
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def about(self, details: Mapping[str, str]) -> dict[str, str]:
        """The details of an incident with what is known of its deployment."""
        return {**self._known.get(details.get("deployment_id", ""), {}), **details}
