CREATE TABLE IF NOT EXISTS {database}.deployment_heads
(
    `id` UInt128 COMMENT 'SipHash-128 of region and deployment: sixteen bytes are compared faster than two texts.',
    `region` LowCardinality(String) COMMENT 'Region of the deployment.',
    `revision` Int64 COMMENT 'Revision; the highest is current.',
    `state` LowCardinality(String) COMMENT 'State of the deployment.',
    `environment` LowCardinality(String) COMMENT 'Environment of the deployment.',
    `service` LowCardinality(String) COMMENT 'Service of the deployment.',
    `merged` Bool COMMENT 'Whether it is another name of a deployment.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.'
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Which revision of a deployment is current, to be looked up: the highest of its rows, one of them once merged';

CREATE TABLE IF NOT EXISTS {database}.placed_deployments
(
    `part` Bool COMMENT 'Whether it is counted as a part of another deployment.',
    `service` LowCardinality(String) COMMENT 'Service of the deployment.',
    `environment` LowCardinality(String) COMMENT 'Environment of the deployment.',
    `region` LowCardinality(String) COMMENT 'Region of the deployment.',
    `finished_at` DateTime64(6, 'UTC') COMMENT 'When it took effect, or was undone.',
    `id` UInt128 COMMENT 'SipHash-128 of region and deployment.',
    `revision` Int64 COMMENT 'Revision that says so.',
    `state` LowCardinality(String) COMMENT 'succeeded or rolled_back.',
    `merged` Bool COMMENT 'Whether it is another name of a deployment.',
    `started_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it began.',
    `deployment_id` String COMMENT 'The deployment.',
    `named` Bool COMMENT 'Whether it says what it brought: a version or a digest.',
    `version` String COMMENT 'Version deployed.',
    `artifact_digest` String COMMENT 'Digest of the artifact.',
    `commit_sha` String COMMENT 'Commit.',
    `deployer` LowCardinality(String) COMMENT 'Who initiated it.',
    `provenance` LowCardinality(String) COMMENT 'Whether somebody reported it, or it was inferred.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.'
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (part, service, environment, region, finished_at, id, state)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'Revisions that say that a deployment took effect or was undone, by place; the ones that are not current are told apart by deployment_heads';

CREATE TABLE IF NOT EXISTS {database}.newest_placed
(
    `service` LowCardinality(String) COMMENT 'Service of the place.',
    `environment` LowCardinality(String) COMMENT 'Environment of the place.',
    `region` LowCardinality(String) COMMENT 'Region of the place.',
    `newest` SimpleAggregateFunction(min, Tuple(
        ended Int64, deployment_id String, revision Int64, id UInt128, version String, artifact_digest String,
        recorded_at DateTime64(6, 'UTC'), kafka_partition Int32, kafka_offset Int64)) COMMENT 'The newest success: minus its end in microseconds, the deployment, minus its revision, the hash of its id, and what it brought.',
    `recorded_at` DateTime64(6, 'UTC') ALIAS newest.recorded_at COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 ALIAS newest.kafka_partition COMMENT 'Partition of the record.',
    `kafka_offset` Int64 ALIAS newest.kafka_offset COMMENT 'Offset of the record in its partition.'
)
ENGINE = AggregatingMergeTree
ORDER BY (service, environment, region)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The newest success that was ever told of in each place, once merged; whether it still holds says deployment_heads';

CREATE TABLE IF NOT EXISTS {database}.newest_observations
(
    `service` LowCardinality(String) COMMENT 'Service that was seen.',
    `environment` LowCardinality(String) COMMENT 'Environment that it was seen in.',
    `region` LowCardinality(String) COMMENT 'Region that it was seen in.',
    `cluster` LowCardinality(String) COMMENT 'Cluster that it was seen in.',
    `instance` String COMMENT 'Instance that was seen.',
    `newest` SimpleAggregateFunction(max, Tuple(
        corrected_at DateTime64(6, 'UTC'), kafka_offset Int64, observation_type String, version String, artifact_digest String,
        kafka_partition Int32)) COMMENT 'The newest observation: when, where on the trail, and what was seen.',
    `corrected_at` DateTime64(6, 'UTC') ALIAS newest.corrected_at COMMENT 'When it was seen.',
    `kafka_partition` Int32 ALIAS newest.kafka_partition COMMENT 'Partition of the record.',
    `kafka_offset` Int64 ALIAS newest.kafka_offset COMMENT 'Offset of the record in its partition.'
)
ENGINE = AggregatingMergeTree
ORDER BY (service, environment, region, cluster, instance)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What was last seen of each instance, running or removed, once merged';

CREATE TABLE IF NOT EXISTS {database}.deployment_beginnings
(
    `begun_at` DateTime64(6, 'UTC') COMMENT 'When it began, as a revision says.',
    `region` LowCardinality(String) COMMENT 'Region of the deployment.',
    `environment` LowCardinality(String) COMMENT 'Environment of the deployment.',
    `deployment_id` String COMMENT 'The deployment.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.'
)
ENGINE = ReplacingMergeTree(recorded_at)
ORDER BY (begun_at, region, deployment_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every time at which a revision says that its deployment began';

CREATE TABLE IF NOT EXISTS {database}.part_links
(
    `deployment_id` String COMMENT 'The part.',
    `region` LowCardinality(String) COMMENT 'Region of the part: an id may be used in several.',
    `revision` Int64 COMMENT 'Revision that says so; the highest counts.',
    `part_of` String COMMENT 'What it is a part of.',
    `environment` LowCardinality(String) COMMENT 'Environment of the part.',
    `service` LowCardinality(String) COMMENT 'Service of the part.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.'
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (deployment_id, region, environment)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Deployments that are a part of another one, as last said, once merged';

CREATE TABLE IF NOT EXISTS {database}.config_values
(
    `key` String COMMENT 'Key of the configuration.',
    `service` LowCardinality(String) COMMENT 'Service of the event.',
    `environment` LowCardinality(String) COMMENT 'Environment of the event.',
    `region` LowCardinality(String) COMMENT 'Region of the event.',
    `corrected_at` DateTime64(6, 'UTC') COMMENT 'When it was set.',
    `kafka_partition` Int32 COMMENT 'Partition of the event.',
    `kafka_offset` Int64 COMMENT 'Offset of the event in its partition.',
    `deployment_id` String COMMENT 'The deployment that set it.',
    `id` UInt128 COMMENT 'SipHash-128 of region and deployment.',
    `value` String COMMENT 'What it was set to.',
    `uncertainty_ms` Int64 COMMENT 'Half width around corrected_at, milliseconds.',
    `deployer` LowCardinality(String) COMMENT 'Who initiated it.',
    `commit_sha` String COMMENT 'Commit.',
    `change_ticket` String COMMENT 'Change ticket.'
)
ENGINE = ReplacingMergeTree
ORDER BY (key, service, environment, region, corrected_at, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every setting of every configuration key, by key and place';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.deployment_heads_feed TO {database}.deployment_heads
AS SELECT
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, region, revision, state, environment, service,
    merged_into != '' AS merged, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.placed_deployments_feed TO {database}.placed_deployments
AS SELECT
    part_of != '' AS part, service, environment, region, assumeNotNull(finished_at) AS finished_at,
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, revision, state, merged_into != '' AS merged, started_at,
    deployment_id, version != '' OR artifact_digest != '' AS named, version, artifact_digest, commit_sha, deployer, provenance, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE state IN ('succeeded', 'rolled_back') AND finished_at IS NOT NULL;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.newest_placed_feed TO {database}.newest_placed
AS SELECT
    service, environment, region,
    min((-toUnixTimestamp64Micro(finished_at), deployment_id, -revision, id, version, artifact_digest,
        recorded_at, kafka_partition, kafka_offset)) AS newest
FROM {database}.placed_deployments
WHERE state = 'succeeded' AND NOT part AND NOT merged AND named
GROUP BY service, environment, region;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.newest_observations_feed TO {database}.newest_observations
AS SELECT
    service, environment, region, cluster, instance,
    max((corrected_at, kafka_offset, toString(observation_type), version, artifact_digest, kafka_partition)) AS newest
FROM {database}.observations
WHERE observation_type IN ('running', 'removed')
GROUP BY service, environment, region, cluster, instance;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.deployment_beginnings_feed TO {database}.deployment_beginnings
AS SELECT
    assumeNotNull(coalesce(started_at, finished_at)) AS begun_at, region, environment, deployment_id,
    recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE started_at IS NOT NULL OR finished_at IS NOT NULL;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.part_links_feed TO {database}.part_links
AS SELECT deployment_id, region, revision, part_of, environment, service, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE part_of != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.config_values_feed TO {database}.config_values
AS SELECT
    pair.1 AS key, service, environment, region, corrected_at, kafka_partition, kafka_offset, deployment_id,
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, pair.2 AS value, uncertainty_ms, deployer, commit_sha, change_ticket
FROM {database}.deployment_events
ARRAY JOIN CAST(config_changes, 'Array(Tuple(String, String))') AS pair
WHERE notEmpty(config_changes);

INSERT INTO {database}.deployment_heads SELECT
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, region, revision, state, environment, service,
    merged_into != '' AS merged, recorded_at, kafka_partition, kafka_offset
FROM {database}.current_deployments FINAL;

INSERT INTO {database}.placed_deployments SELECT
    part_of != '' AS part, service, environment, region, assumeNotNull(finished_at) AS finished_at,
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, revision, state, merged_into != '' AS merged, started_at,
    deployment_id, version != '' OR artifact_digest != '' AS named, version, artifact_digest, commit_sha, deployer, provenance, recorded_at, kafka_partition, kafka_offset
FROM {database}.current_deployments
WHERE state IN ('succeeded', 'rolled_back') AND finished_at IS NOT NULL;

INSERT INTO {database}.placed_deployments SELECT
    part_of != '' AS part, service, environment, region, assumeNotNull(finished_at) AS finished_at,
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, revision, state, merged_into != '' AS merged, started_at,
    deployment_id, version != '' OR artifact_digest != '' AS named, version, artifact_digest, commit_sha, deployer, provenance, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE state IN ('succeeded', 'rolled_back') AND finished_at IS NOT NULL;

-- Also where the rows above were stored by an attempt that ended before its view had seen them; the least of all is the least again.
INSERT INTO {database}.newest_placed SELECT
    service, environment, region,
    min((-toUnixTimestamp64Micro(finished_at), deployment_id, -revision, id, version, artifact_digest,
        recorded_at, kafka_partition, kafka_offset)) AS newest
FROM {database}.placed_deployments
WHERE state = 'succeeded' AND NOT part AND NOT merged AND named
GROUP BY service, environment, region;

INSERT INTO {database}.newest_observations SELECT
    service, environment, region, cluster, instance,
    max((corrected_at, kafka_offset, toString(observation_type), version, artifact_digest, kafka_partition)) AS newest
FROM {database}.observations
WHERE observation_type IN ('running', 'removed')
GROUP BY service, environment, region, cluster, instance;

INSERT INTO {database}.deployment_beginnings SELECT
    assumeNotNull(coalesce(started_at, finished_at)) AS begun_at, region, environment, deployment_id,
    recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE started_at IS NOT NULL OR finished_at IS NOT NULL;

INSERT INTO {database}.part_links SELECT deployment_id, region, revision, part_of, environment, service, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE part_of != '';

INSERT INTO {database}.config_values SELECT
    pair.1 AS key, service, environment, region, corrected_at, kafka_partition, kafka_offset, deployment_id,
    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, pair.2 AS value, uncertainty_ms, deployer, commit_sha, change_ticket
FROM {database}.deployment_events
ARRAY JOIN CAST(config_changes, 'Array(Tuple(String, String))') AS pair
WHERE notEmpty(config_changes);
