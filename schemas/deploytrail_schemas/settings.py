"""Every setting: an environment variable DEPLOYTRAIL_*, with type, default and meaning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError

PREFIX = "DEPLOYTRAIL_"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
DEFAULT_REGIONS = "eu-west-1=1,eu-central-1=2,us-east-1=3,us-west-2=4,ap-southeast-1=5,ap-northeast-1=6,sa-east-1=7"


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process. `DEPLOYTRAIL_` + the upper-case name is the variable."""

    url: str = _setting("", "where producers send: https://… (a gateway) or kafka://host:port; empty: only spool")
    token: str = _setting("", "token that producers show to the gateway")
    region: str = _setting("", "region that producers report when the call names none")
    environment: str = _setting("", "environment that producers report when the call names none")
    spool: Path = _setting(Path("~/.local/state/deploytrail/spool"), "folder of the producers' spool")
    spool_max_bytes: int = _setting(64 << 20, "size that the spool may reach, in bytes")
    spool_max_events: int = _setting(200_000, "events of one host that the spool may hold")
    heartbeat_seconds: float = _setting(60.0, "seconds between the progress events of `deploytrail run`; 0: none")
    kafka: str = _setting("127.0.0.1:9092", "Kafka bootstrap servers, host:port,…")
    kafka_client: str = _setting("", "more librdkafka client settings, name=value;…, e.g. for TLS and SASL")
    replication: int = _setting(1, "replicas of each topic that deploytrail creates")
    partitions: int = _setting(16, "partitions of each topic that is partitioned by region")
    regions: str = _setting(DEFAULT_REGIONS, "partition of each region, name=number,…; 0 is every other region")
    backfill_partition: int = _setting(15, "partition that backfilled history goes to")
    tick_seconds: float = _setting(5.0, "seconds between two ticks of a partition")
    state: Path = _setting(Path(".deploytrail/state"), "folder of the processors' local state")
    clickhouse_url: str = _setting(
        "http://127.0.0.1:8123", "ClickHouse HTTP interface; replicas of it, separated by commas, are tried in turn"
    )
    clickhouse_user: str = _setting("default", "ClickHouse user")
    clickhouse_password: str = _setting("", "ClickHouse password")
    clickhouse_database: str = _setting("deploytrail", "ClickHouse database")
    clickhouse_cluster: str = _setting(
        "", "ClickHouse cluster: tables are Replicated then, with Distributed ones in front; empty: one node"
    )
    clickhouse_shards: str = _setting(
        "",
        "shards of regions, region=URL,URL|URL;…: commas between replicas, bars between shards that share a region by "
        "service; regions not named go to DEPLOYTRAIL_CLICKHOUSE_URL",
    )
    archive: str = _setting(
        "file:.deploytrail/archive",
        "store of the archive: file:FOLDER or s3://BUCKET/PREFIX?region=…&endpoint=…&lock=…",
    )
    archive_segment_records: int = _setting(50_000, "records after which an archive segment is closed")
    archive_segment_bytes: int = _setting(16 << 20, "bytes after which an archive segment is closed")
    archive_segment_seconds: float = _setting(40.0, "age in seconds at which an archive segment is closed")
    archive_retention: str = _setting(
        "", "how archive classes are kept, CLASS=DAYS[:LOCK[:TIER]],…: production-regulated, production, non-production"
    )
    archive_principals: str = _setting(
        "", "file of who may hold and purge in the archive: JSON of names and Ed25519 public keys"
    )
    archive_origin: str = _setting("deploytrail.local/archive", "name of the archive's log; no other log may have it")
    archive_sequencer_key: str = _setting("", "key file of the log's sequencer; `deploytrail archive keygen` makes it")
    archive_signer_keys: str = _setting("", "key files of the log's signer, FILE,…: two while one replaces the other")
    archive_signer_folder: Path = _setting(
        Path(".deploytrail/archive-signer"), "folder in which the log's signer remembers its last checkpoint"
    )
    archive_trust: str = _setting("", "trust file of the log: keys of log, sequencer and witnesses, and the quorum")
    archive_log_seconds: float = _setting(5.0, "seconds between two looks of sequencer and signer for what is new")
    archive_timestamp_url: str = _setting("", "RFC 3161 authority that stamps checkpoints, http(s)://…; empty: none")
    archive_timestamp_seconds: float = _setting(3600.0, "seconds between two time stamps of checkpoints")
    pseudonyms: str = _setting(
        "", "file in which the gateway keeps names of people and their pseudonyms; empty: names stay as they are"
    )
    oncall_url: str = _setting(
        "", "where pages go: alertmanager+http://host:port (Alertmanager v2 API) or http(s)://… (webhook)"
    )
    gateway_host: str = _setting("127.0.0.1", "address that the gateway listens on")
    gateway_port: int = _setting(8470, "port that the gateway listens on")
    gateway_spool: Path = _setting(
        Path(".deploytrail/gateway-spool"), "folder in which the gateway keeps records while Kafka is away"
    )
    gateway_spool_max_bytes: int = _setting(256 << 20, "size that the gateway's spool may reach, in bytes; 0: none")
    gateway_workers: int = _setting(1, "processes that serve the gateway's port")
    webhook_secrets: str = _setting(
        "", "secrets of webhook sources, source=secret;…, several of one separated by commas; unsigned are refused then"
    )
    syslog_port: int = _setting(0, "port on which the gateway takes syslog (RFC 5424), TCP and UDP; 0: none")
    csv_maps: str = _setting("", "YAML file that says how the CSV of legacy systems is read; empty: none is")
    poll: str = _setting("", "YAML file of the APIs that `deploytrail poll` asks for what webhooks missed")
    poll_state: Path = _setting(Path(".deploytrail/state/poll.json"), "file in which a poller keeps how far it came")
    metrics_port: int = _setting(0, "port for /healthz, /readyz and /metrics; 0: none")
    remember_days: int = _setting(90, "days of quiet after which processors forget a deployment")
    clickhouse_batch_rows: int = _setting(50_000, "messages after which the ClickHouse sink inserts")
    clickhouse_batch_bytes: int = _setting(
        32 << 20, "bytes after which the ClickHouse sink inserts; it holds at most twice as many in memory"
    )
    clickhouse_batch_seconds: float = _setting(
        0.2, "age in seconds at which the ClickHouse sink inserts; earlier while ClickHouse is quick"
    )
    clickhouse_insert_threads: int = _setting(3, "inserts of the ClickHouse sink that run side by side")
    clickhouse_hot_days: int = _setting(0, "days that rows stay on ClickHouse's hot volume; 0: for good")
    clickhouse_cold_days: int = _setting(365, "days that rows then stay on the cold volume")
    clickhouse_storage_policy: str = _setting(
        "", "ClickHouse storage policy with a volume named cold; empty: rows are deleted where they are"
    )
    clickhouse_config: str = _setting("", "config.xml of the embedded ClickHouse, such as one with storage policies")
    clickhouse_users: str = _setting("", "users.xml of the embedded ClickHouse; empty: anyone on this host may ask")
    purge_after_days: int = _setting(90, "days after which `deploytrail purge` deletes non-production rows")
    home: Path = _setting(Path(".deploytrail"), "folder of the embedded stack: data, logs, state")
    regulated: str = _setting("", "services in scope of a regime (SOX, HIPAA), name,…: their archive class")
    service: str = _setting("", "service that producers report when the call names none")
    exit_wait_seconds: float = _setting(1.0, "seconds that a producer waits at its end for the delivery of its events")
    oncall_max_age_minutes: float = _setting(60.0, "age in minutes at which an incident no longer pages")
    oncall_wait_seconds: float = _setting(
        3.0, "seconds that a page about an alert that is not critical waits for the word that it is suppressed; 0: none"
    )
    silences_url: str = _setting(
        "", "Alertmanager, http(s)://host:port, in which suppressed alerts are silenced (v2 API); empty: nowhere"
    )
    silences_sources: str = _setting(
        "", "sources of signals, comma-separated, that still tell us of alerts which that Alertmanager has silenced"
    )
    log: str = _setting("", "where producers write each event as a JSON line too: stderr, or a file; empty: nowhere")
    credentials: str = _setting("", "file of the tokens that gateway and intake accept; `deploytrail token` writes it")
    oidc: str = _setting("", "YAML file of the CI systems whose OIDC tokens the gateway accepts")
    anonymous: str = _setting(
        "loopback",
        "who needs no credential at the gateway: loopback (this host, while no token is configured), anyone, nobody",
    )
    schema_registry: str = _setting(
        "",
        "schema registry, http(s)://[user:password@]host:port,…: records are written to Kafka in the Confluent wire "
        "format then; empty: Avro single-object encoding",
    )
    schema_registry_auth: str = _setting(
        "", "user:password of the schema registry, or a bearer token, where its URL has none"
    )
    relay_token: str = _setting("", "dtk_ token with the verb relay, by which gateway and backfill sign records")
    permit: str = _setting("", "permit that `deploytrail verify-permit` checks")
    permit_keys: str = _setting("", "public keys (JWKS) of the gate that issues permits: a file, or https://…")
    permit_issuer: str = _setting("", "`iss` that permits must have: the gate's name")
    permit_audience: str = _setting("deploytrail", "`aud` that permits must have")
    gate_url: str = _setting("", "gate that `deploytrail require-permit` asks, https://…")
    gate_host: str = _setting("127.0.0.1", "address that the gate listens on")
    gate_port: int = _setting(8471, "port that the gate listens on")
    gate_advertised: str = _setting("", "URL by which other workers of the gate reach this one; empty: host and port")
    gate_keys: str = _setting("", "folder of the gate's private keys, NAME.pem (Ed25519, PKCS 8); the last name signs")
    permit_seconds: int = _setting(900, "seconds that a permit lives, at most 900")
    # What stands above what the CI system says of a build; an argument of the call stands above these.
    build_system: str = _setting("", "build system that producers report instead of the one that they see")
    build_id: str = _setting("", "build id that producers report instead of the CI system's")
    build_number: str = _setting("", "build number that producers report instead of the CI system's")
    build_url: str = _setting("", "build URL that producers report instead of the CI system's")
    commit_sha: str = _setting("", "commit that producers report instead of the CI system's")
    committed_at: str = _setting("", "when that commit was made, RFC 3339; lead times are counted from there")
    repository: str = _setting("", "repository that producers report instead of the CI system's")
    ref: str = _setting("", "branch or tag that producers report instead of the CI system's")
    pipeline: str = _setting("", "pipeline that producers report instead of the CI system's")
    job: str = _setting("", "job that producers report instead of the CI system's")
    stage: str = _setting("", "stage that producers report instead of the CI system's")
    deployer: str = _setting("", "deployer that producers report instead of who started the build")
    deployer_type: str = _setting("", "person or automation, for a deployer that is set so")
    cluster: str = _setting("", "name of the Kubernetes cluster that `admission` and `watch` speak of")
    regulated_namespaces: str = _setting(
        "", "namespaces that need permits at admission also where they lack the label, name,…"
    )
    federated_clusters: str = _setting(
        "",
        "clusters whose records `deploytrail processor federation` merges, NAME,…: of each the topic "
        "NAME.deploytrail.records that a mirror makes, or NAME=TOPIC",
    )
    mirrored_cluster: str = _setting(
        "",
        "cluster whose mirrored topics, NAME.deploytrail.…, the ClickHouse sink reads instead of its own cluster's; "
        "give it a database of its own",
    )
    namespace_environments: str = _setting(
        "", "environment of each namespace, namespace=environment,…; the others have DEPLOYTRAIL_ENVIRONMENT"
    )
    exempt_images: str = _setting(
        "", "images that need no permit at admission, registry/path*,…: sidecars of the platform"
    )
    admission_controllers: str = _setting(
        "", "users whose objects with an owner need no permit, e.g. system:serviceaccount:argo-rollouts:*,…"
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from an environment; ConfigurationError names every variable that is wrong."""
        values: dict[str, Any] = {}
        wrong: list[str] = []
        for f in fields(cls):
            name = variable(f.name)
            text = environ.get(name)
            if text is None or (text == "" and f.default != ""):
                continue
            try:
                values[f.name] = _parse(text, f.default)
            except ValueError:
                wrong.append(f"{name} is {text!r}; expected {_kind(f.default)} ({f.metadata['meaning']})")
        if wrong:
            raise ConfigurationError("; ".join(wrong))
        return cls(**values)


def variable(name: str) -> str:
    """The environment variable of a setting's name."""
    return PREFIX + name.upper()


def describe() -> list[tuple[str, str, str, str]]:
    """(variable, type, default, meaning) of every setting."""
    return [(variable(f.name), _kind(f.default), str(f.default), f.metadata["meaning"]) for f in fields(Settings)]


def _kind(default: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return kinds.get(type(default), "a path")


def _parse(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError
    if isinstance(default, (int, float)):
        number = type(default)(text)
        if number < 0 or number != number or number == float("inf"):
            raise ValueError
        return number
    if isinstance(default, Path):
        return Path(text)
    return text.strip("\r\n")  # files of secrets end with a line's end, and no setting has one
