"""Writer, SREs, auditors and administrators: what each may do, on the embedded engine and in ClickHouse's parser."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_local.clickhouse_server.errors import RequestError
from deploytrail_local.clickhouse_server.queries import Query
from deploytrail_local.clickhouse_server.users import Quota, User, Users, read_users
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess

FOLDER = Path(__file__).parents[2] / "deploy" / "clickhouse"
PASSWORDS = {name: f"secret of {name}" for name in ("writer", "sre", "auditor", "admin")}
HASHES = {
    f"DEPLOYTRAIL_{name.upper()}_SHA256": hashlib.sha256(text.encode()).hexdigest() for name, text in PASSWORDS.items()
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    env = HASHES | {"DEPLOYTRAIL_CLICKHOUSE_USERS": str(FOLDER / "users.xml")}
    with ClickHouseProcess(tmp_path_factory.mktemp("users"), env) as running:
        migrate(as_user(running, "admin"), "deploytrail")
        yield running


def as_user(server: ClickHouseProcess, name: str, password: str | None = None) -> Client:
    settings = Settings(
        clickhouse_url=server.url,
        clickhouse_user=f"deploytrail_{name}",
        clickhouse_password=PASSWORDS[name] if password is None else password,
    )
    return connect(settings)


@pytest.mark.requirement("M2.6")
def test_nobody_comes_in_without_his_password(server: ClickHouseProcess) -> None:
    with pytest.raises(ClickHouseError, match="516"):
        as_user(server, "sre", "wrong")
    with pytest.raises(ClickHouseError, match="516"):
        connect(Settings(clickhouse_url=server.url))


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("name", ["sre", "auditor"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO deploytrail.purges (purge_id) VALUES ('x')",
        "DROP TABLE deploytrail.signals",
        "CREATE TABLE deploytrail.mine (a Int8) ENGINE = Memory",
        "ALTER TABLE deploytrail.findings DELETE WHERE 1",
        "TRUNCATE TABLE deploytrail.findings",
        "SET readonly = 0",
    ],
)
def test_who_reads_cannot_write(server: ClickHouseProcess, name: str, statement: str) -> None:
    client = as_user(server, name)
    with pytest.raises(ClickHouseError, match=r"(?i)readonly|164"):
        client.command(statement)

    assert client.query("SELECT count() FROM deploytrail.deployments").result_rows == [(0,)]


def asked(server: ClickHouseProcess, query: str, **settings: int) -> tuple[int, str]:
    """Status and text of a plain request of an SRE: clients that know what is readonly would not send it."""
    headers = {"X-ClickHouse-User": "deploytrail_sre", "X-ClickHouse-Key": PASSWORDS["sre"]}
    answer = httpx.post(server.url, params=settings, content=query.encode(), headers=headers, timeout=60)
    return answer.status_code, answer.text


@pytest.mark.requirement("M2.6")
def test_a_limit_of_an_sre_bites_and_cannot_be_raised(server: ClickHouseProcess) -> None:
    endless = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number))"

    assert "TIMEOUT_EXCEEDED" in asked(server, endless, max_execution_time=1)[1]
    assert "TOO_MANY_ROWS" in asked(server, "SELECT count() FROM numbers(3000000000) WHERE number % 7 = 1")[1]
    assert "SETTING_CONSTRAINT_VIOLATION" in asked(server, "SELECT 1", max_execution_time=3600)[1]
    assert "Cannot modify" in asked(server, "SELECT 1 SETTINGS max_execution_time = 3600")[1]
    assert asked(server, "SELECT 1", max_execution_time=5) == (200, "1\n")


@pytest.mark.requirement("M2.6")
def test_an_sre_has_so_much_memory_and_no_more(server: ClickHouseProcess) -> None:
    hungry = "SELECT length(groupArray(number)) FROM numbers(60000000)"  # 480 MB

    assert asked(server, "SELECT getSetting('max_memory_usage')") == (200, "4000000000\n")
    assert "MEMORY_LIMIT_EXCEEDED" in asked(server, hungry, max_memory_usage=100_000_000)[1]
    for more in (4_000_000_001, 0):  # 0 is no limit to the engine
        assert "SETTING_CONSTRAINT_VIOLATION" in asked(server, "SELECT 1", max_memory_usage=more)[1]
    assert asked(server, "SELECT 1") == (200, "1\n")


def test_the_writer_writes(server: ClickHouseProcess) -> None:
    as_user(server, "writer").command("INSERT INTO deploytrail.purges (purge_id) VALUES ('written')")

    assert as_user(server, "auditor").query("SELECT purge_id FROM deploytrail.purges").result_rows == [("written",)]


# Run in a process of its own, since the engine opens one folder a process: prints what each statement came to.
_ASK = """
import chdb, json, sys
engine = chdb.connect(sys.argv[1])
for statement in json.load(sys.stdin):
    try:
        engine.query(statement)
        print("done")
    except Exception as error:
        print("denied" if "ACCESS_DENIED" in str(error) else str(error).splitlines()[0])
engine.close()
"""
_DATABASES = ("deploytrail", "deploytrail_eu", "deploytrailers", "other")


def engine_says(source: str, statements: list[str]) -> list[str]:
    argv = [sys.executable, "-c", _ASK, source]
    done = subprocess.run(argv, input=json.dumps(statements), capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


@pytest.mark.requirement("M2.6", "M8.2")
@pytest.mark.parametrize(
    ("name", "reads", "writes"), [("writer", 2, 2), ("sre", 2, 0), ("auditor", 2, 0), ("admin", 4, 4)]
)
def test_grants_reach_the_databases_of_mirrored_clusters_and_no_others(
    name: str, reads: int, writes: int, tmp_path: Path
) -> None:
    made = [
        text
        for database in _DATABASES
        for text in (f"CREATE DATABASE {database}", f"CREATE TABLE {database}.t (a Int8) ENGINE = MergeTree ORDER BY a")
    ]
    assert engine_says(str(tmp_path / "data"), made) == ["done"] * 8
    # The library has one user: it is given what the file grants to the one of that name.
    grants = ElementTree.parse(FOLDER / "users.xml").getroot().findall(f"users/deploytrail_{name}/grants")
    said = ElementTree.tostring(grants[0], encoding="unicode")
    (tmp_path / "users.xml").write_text(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password/>"
        f"<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>{said}</default></users></clickhouse>"
    )
    (tmp_path / "config.xml").write_text(
        f"<clickhouse><users_config>{tmp_path / 'users.xml'}</users_config></clickhouse>"
    )
    source = f"{tmp_path / 'data'}?config-file={tmp_path / 'config.xml'}"
    read = engine_says(source, [f"SELECT count() FROM {database}.t" for database in _DATABASES])
    written = engine_says(source, [f"INSERT INTO {database}.t VALUES (1)" for database in _DATABASES])
    dropped = engine_says(source, ["DROP TABLE deploytrail_eu.t"])

    assert read == ["done"] * reads + ["denied"] * (4 - reads)
    assert written == ["done"] * writes + ["denied"] * (4 - writes)
    assert dropped == (["done"] if name == "admin" else ["denied"])


def test_a_quota_of_queries_and_errors_is_counted_back_from_now() -> None:
    now = [100.0]
    quota = Quota(60.0, queries=3, errors=2)
    users = Users({"a": User("a", "", {}, {}, False, (quota,))}, clock=lambda: now[0])
    query = Query(b"SELECT 1", "", "TSV", {}, {}, None)
    asked = {"X-ClickHouse-User": "a"}
    for _ in range(3):
        users.admit(query, "", asked)
    with pytest.raises(RequestError, match="QUOTA_EXCEEDED"):
        users.admit(query, "", asked)
    now[0] += 61
    user, _ = users.admit(query, "", asked)
    users.failed(user)
    users.failed(user)
    with pytest.raises(RequestError, match="QUOTA_EXCEEDED"):
        users.admit(query, "", asked)


def test_a_password_that_is_not_in_the_environment_is_said() -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_WRITER_SHA256 of deploytrail_writer is no SHA-256"):
        read_users(FOLDER / "users.xml", {})


def test_the_sql_is_read_by_clickhouses_own_parser(clickhouse: str) -> None:
    client = clickhouse_connect.get_client(dsn=clickhouse.replace("http", "clickhouse"), autogenerate_session_id=False)
    text = "\n".join(line for line in (FOLDER / "users.sql").read_text().splitlines() if not line.startswith("--"))
    statements = [part.strip() for part in text.split(";") if part.strip()]
    for statement in statements:
        hashed = statement
        for name, digest in zip(("writer", "sre", "auditor", "admin"), HASHES.values(), strict=True):
            hashed = hashed.replace(f"{{{name}:String}}", f"'{digest}'")

        assert client.command(f"EXPLAIN AST {hashed}"), statement
    assert len(statements) > 15


def test_the_file_and_the_sql_say_the_same() -> None:
    root, sql = ElementTree.parse(FOLDER / "users.xml").getroot(), (FOLDER / "users.sql").read_text()
    for user in root.iterfind("users/*"):
        for grant in user.iterfind("grants/query"):
            granted = (grant.text or "").replace(" WITH GRANT OPTION", "")
            assert f"{granted} TO {user.tag}" in sql
    for profile in root.iterfind("profiles/*"):
        for one in profile:
            if one.tag != "constraints":
                assert f"{one.tag} = {one.text}" in sql.replace("'", "")  # words are quoted there
    for limit in root.findall("quotas/*/interval/*"):
        if limit.tag in ("queries", "errors", "read_rows") and limit.text != "0":
            assert f"{limit.tag} = {limit.text}" in sql
