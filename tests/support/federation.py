"""A company of three clusters, and the federation app in memory, beside which the real one is held."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from deploytrail_processors.apps.federation import Federation
from deploytrail_processors.rules.federated_content import Claim, Content
from deploytrail_processors.rules.federation import claim_of
from deploytrail_schemas.settings import Settings

from support.values import MINUTE, NOON, record


class InMemory:
    """The app in memory: its claims topic, and the newest federated record of each id."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.claims: list[tuple[int, str, Claim]] = []
        self.read = 0
        self.records: dict[str, Content] = {}
        self.now = NOON
        self.app = Federation(self.rows, Settings(remember_days=90), self)

    def claim(self, partition: int, deployment_id: str, claim: Claim) -> None:
        self.claims.append((partition, deployment_id, claim))

    def federated(self, partition: int, content: Content) -> None:
        self.records[content["deployment_id"]] = content

    def merge(self) -> None:
        """Read the claims topic to its end, which moves on while ids tell each other."""
        while self.read < len(self.claims):
            assert self.read < 5000, "ids do not stop telling each other"
            self.handle(self.read)
            self.read += 1

    def handle(self, offset: int) -> None:
        partition, deployment_id, claim = self.claims[offset]
        self.app.on_claim(partition, offset, deployment_id, claim, self.now)


def company(chance: random.Random, deployments: int = 4, clusters: Iterable[str] = ("eu", "us", "asia")) -> list[Claim]:
    """What clusters tell of some deployments, of which some have several ids, in the order of each cluster."""
    told = []
    for number in range(deployments):
        names = [f"d{number}", f"hook{number}", f"argo{number}"]
        for cluster in clusters:
            known = chance.sample(names, chance.randint(1, 3))
            stands = min(known)
            for revision in range(1, chance.randint(2, 4)):
                state = chance.choice(["running", "succeeded", "failed"])
                at = NOON + chance.randint(0, 9) * MINUTE
                fields: dict[str, Any] = {"revision": revision, "started_at": at, "last_event_at": at}
                whole = record(state, at, deployment_id=stands, **fields | {"deployment_ids": sorted(known)})
                told.append(claim_of(cluster, 1, whole))
                told += [
                    claim_of(cluster, 1, record("merged", at, deployment_id=name, merged_into=stands, **fields))
                    for name in known
                    if name != stands
                ]
    return told
