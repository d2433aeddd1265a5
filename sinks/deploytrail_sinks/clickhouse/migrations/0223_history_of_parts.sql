CREATE TABLE IF NOT EXISTS {database}.part_history
(
    `region` LowCardinality(String) COMMENT 'Region of the part: an id may be used in several.',
    `deployment_id` String COMMENT 'The part.',
    `revision` Int64 COMMENT 'Revision that says so.',
    `part_of` String COMMENT 'What it is a part of.',
    `environment` LowCardinality(String) COMMENT 'Environment of the part.',
    `service` LowCardinality(String) COMMENT 'Service of the part.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the revision was derived.',
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.'
)
ENGINE = ReplacingMergeTree
ORDER BY (region, deployment_id, revision, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision that says that its deployment is a part of another one; whether a later one took it back is told by deployment_heads';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.part_history_feed TO {database}.part_history
AS SELECT region, deployment_id, revision, part_of, environment, service, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE part_of != '';

INSERT INTO {database}.part_history SELECT region, deployment_id, revision, part_of, environment, service, recorded_at, kafka_partition, kafka_offset
FROM {database}.deployment_revisions
WHERE part_of != '';
