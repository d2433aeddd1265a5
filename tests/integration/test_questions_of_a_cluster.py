"""Every question of the README on the tables of a cluster of two shards, as far as the embedded engine can be one.

It reads its own shards only, so both are itself, with the same rows: what an answer counts is doubled, and is not
compared. What is shown is that ClickHouse lets each question join tables that are spread over shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_local import ports
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.migrate import migrations
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.monday import play
from support.questions import Trail

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    question.strip()
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / "sinks" / "README.md").read_text("utf-8"), re.S)
    for question in block.split(";\n")
]
CONFIG = """<clickhouse><tcp_port>{port}</tcp_port><remote_servers><both>
<shard><replica><host>127.0.0.1</host><port>{port}</port></replica></shard>
<shard><replica><host>127.0.0.1</host><port>{port}</port></replica></shard>
</both></remote_servers></clickhouse>"""


class Spread(Trail):
    """The tables of a cluster, not replicated: the engine has no Keeper."""

    def _migrate(self) -> None:
        self.client.command(f"CREATE DATABASE {self.database}")
        for migration in migrations():
            for statement in migration.statements(self.database, "both"):
                self.client.command(plain(statement.text))


def plain(statement: str) -> str:
    """A cluster's statement for one node that stands for all."""
    text = statement.replace(" ON CLUSTER 'both'", "").replace("replicated_dedup", "non_replicated_dedup")
    return re.sub(r"Replicated(\w*MergeTree)\('[^']*', '\{replica\}'(?:, )?", r"\1(", text)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    folder = tmp_path_factory.mktemp("spread")
    (folder / "config.xml").write_text(CONFIG.format(port=ports.free_port()))
    with ClickHouseProcess(folder, {"DEPLOYTRAIL_CLICKHOUSE_CONFIG": str(folder / "config.xml")}) as server:
        trail = Spread(server.url, cluster="both")
        play(trail)
        yield trail


@pytest.fixture(scope="module")
def as_a_reader(spread: Spread) -> Client:
    """A connection whose profile is that of deploy/clickhouse/users.xml."""
    settings = Settings(clickhouse_url=spread.url, clickhouse_cluster="both")
    client = connect(settings)
    client.database = spread.database
    return client


@pytest.mark.requirement("M8.1")
@pytest.mark.parametrize("question", EXAMPLES, ids=[re.findall(r"FROM (\w+)", q)[-1] for q in EXAMPLES])
def test_every_question_can_be_asked_of_a_cluster(as_a_reader: Client, question: str) -> None:
    assert as_a_reader.query(question).result_rows


@pytest.mark.requirement("M8.1")
def test_clickhouse_would_refuse_what_is_spread_without_the_setting(spread: Spread) -> None:
    """Or the tests above would show nothing."""
    client = clickhouse_connect.get_client(dsn=spread.url.replace("http", "clickhouse"), autogenerate_session_id=False)
    refused = []
    for question in EXAMPLES:
        client.database = spread.database
        try:
            client.query(question)
        except ClickHouseError as error:
            refused.append(error.code)

    assert refused and set(refused) == {288}


@pytest.mark.requirement("M8.1")
def test_answers_of_a_cluster_name_what_one_node_names(spread: Spread, as_a_reader: Client, clickhouse: str) -> None:
    alone = Trail(clickhouse)
    play(alone)
    day = "since = '2026-11-02 00:00:00', until = '2026-11-03 00:00:00'"
    known = f"{day}, as_of = '2026-11-04 00:00:00', environment = 'production'"
    questions = (
        "SELECT service, version, deployment_id, seen_versions, agreement FROM what_runs",
        "SELECT service, version, deployment_id, seen_versions, agreement FROM what_runs_of(service = 'shop')",
        "SELECT service, version, deployment_id FROM version_at(at = '2026-11-02 13:30:00')",
        "SELECT service, key, value, deployment_id FROM config_at(at = '2026-11-02 13:30:00')",
        "SELECT value, deployment_id, deployer FROM who_changed(key = 'pool_size')",
        "SELECT deployment_id, service, distance, timing FROM changed_before(service = 'shop', region = 'eu-west-1', "
        "environment = 'production', at = '2026-11-02 18:05:00', minutes = 15)",
        f"SELECT deployment_id, team, state FROM change_failures({known}, excluded_kinds = [])",
        f"SELECT signal_id, likely_deployment_id, explained_by FROM incident_causes({known})",
        f"SELECT deployment_id, reason FROM broken_ticket_links({day}, environment = 'production')",
        f"SELECT team FROM dora({known}, excluded_kinds = [])",
        "SELECT rule, reason, deployment_id, signal_id FROM standing_findings",
        "SELECT deployment_id, state FROM deployments",
    )
    for question in questions:
        here = {tuple(map(str, row)) for row in as_a_reader.query(question).result_rows}
        there = {tuple(str(value) for value in row.values()) for row in alone.inside(question)}

        assert here == there, question
    alone.close()
