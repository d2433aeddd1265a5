"""Names of independent clusters, and of their topics where a mirror has put them."""

from __future__ import annotations

import re

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def mirrored(cluster: str, topic: Topic) -> str:
    """A cluster's topic as MirrorMaker 2 calls it in the cluster that it writes to (its DefaultReplicationPolicy)."""
    return f"{cluster}.{topic.value}"


def is_topic(name: str, topic: Topic) -> bool:
    """Whether a name is that of a topic, in its own cluster or where a mirror has put it."""
    return name == topic.value or name.endswith(f".{topic.value}")


def check_cluster(name: str, setting: str) -> str:
    """The name; ConfigurationError where no mirror could have it."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{setting} names the cluster {name!r}; expected letters, digits, - and _")
    return name


def federated_topics(settings: Settings) -> dict[str, str]:
    """The cluster of each topic of records that a federation merges, by the topic's name.

    ConfigurationError where none is set, a name cannot be one, or stands twice.
    """
    setting = "DEPLOYTRAIL_FEDERATED_CLUSTERS"
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in settings.federated_clusters.split(","))):
        name, _, topic = (part.strip() for part in entry.partition("="))
        cluster = check_cluster(name, setting)
        topic = topic or mirrored(cluster, Topic.RECORDS)
        if cluster in found.values() or topic in found:
            raise ConfigurationError(f"{setting} names {entry} twice; each cluster has one topic of records")
        found[topic] = cluster
    if not found:
        raise ConfigurationError(
            f"{setting} is empty: name the clusters whose records are mirrored here, e.g. eu,us or eu,us,"
            "central=deploytrail.records"
        )
    return found
