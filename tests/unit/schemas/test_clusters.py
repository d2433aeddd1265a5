"""Names of clusters and of their mirrored topics."""

from __future__ import annotations

import pytest
from deploytrail_schemas.clusters import check_cluster, federated_topics, is_topic, mirrored
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

pytestmark = pytest.mark.requirement("M8.2")


def test_each_cluster_has_the_topic_that_a_mirror_makes_or_the_one_that_is_named() -> None:
    found = federated_topics(Settings(federated_clusters="eu, us ,hq=deploytrail.records"))

    assert found == {
        "eu.deploytrail.records": "eu",
        "us.deploytrail.records": "us",
        "deploytrail.records": "hq",
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [("", "is empty"), ("eu,eu", "twice"), ("eu=a,us=a", "twice"), ("e u", "'e u'"), ("eu/1", "'eu/1'")],
)
def test_clusters_that_cannot_be_are_refused(given: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        federated_topics(Settings(federated_clusters=given))


def test_a_topic_is_known_by_its_name_also_where_a_mirror_put_it() -> None:
    assert is_topic("deploytrail.policies", Topic.POLICIES)
    assert is_topic(mirrored("eu", Topic.POLICIES), Topic.POLICIES)
    assert not is_topic("eudeploytrail.policies", Topic.POLICIES)
    assert not is_topic(mirrored("eu", Topic.RECORDS), Topic.POLICIES)
    assert check_cluster("eu_1-a", "x") == "eu_1-a"
