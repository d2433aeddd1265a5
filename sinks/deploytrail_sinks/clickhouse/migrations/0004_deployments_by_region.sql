DROP VIEW IF EXISTS {database}.current_deployments_feed;

DROP TABLE IF EXISTS {database}.current_deployments;

CREATE TABLE IF NOT EXISTS {database}.current_deployments
(
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.',
    `kafka_timestamp` DateTime64(3, 'UTC') COMMENT 'Kafka\'s timestamp of the record.',
    `deployment_id` String COMMENT 'Names the deployment.',
    `revision` Int64 COMMENT 'Count of this deployment\'s different contents, from 1; the highest is current.',
    `state` LowCardinality(String) COMMENT 'State of the deployment.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'Partition time when this revision was derived.',
    `region` LowCardinality(String) COMMENT 'Region name, e.g. eu-west-1; decides the partition.',
    `environment` LowCardinality(String) COMMENT 'Environment name, e.g. production.',
    `service` LowCardinality(String) COMMENT 'Service name, the unit that is deployed.',
    `tier` LowCardinality(String) COMMENT 'Tier of the service.',
    `team` LowCardinality(String) COMMENT 'Team that owns the service.',
    `kind` LowCardinality(String) COMMENT 'What kind of change was deployed.',
    `strategy` LowCardinality(String) COMMENT 'How the change reaches its instances.',
    `parent_deployment_id` String COMMENT 'Deployment that this one is a part of.',
    `rollback_of` String COMMENT 'Deployment that this one undoes.',
    `rolled_back_by` String COMMENT 'Deployment that undid this one.',
    `version` String COMMENT 'Version deployed.',
    `previous_version` String COMMENT 'Version replaced.',
    `artifact_digest` String COMMENT 'Digest of the artifact.',
    `commit_sha` String COMMENT 'Commit.',
    `repository` LowCardinality(String) COMMENT 'Repository.',
    `build_system` LowCardinality(String) COMMENT 'CI system.',
    `build_id` String COMMENT 'Id of the build.',
    `build_url` String COMMENT 'URL of the build.',
    `deployer` LowCardinality(String) COMMENT 'Who initiated it.',
    `change_ticket` String COMMENT 'Change ticket.',
    `feature_ticket` String COMMENT 'Feature ticket.',
    `emergency` Bool COMMENT 'Whether it was declared an emergency.',
    `registered_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was registered.',
    `queued_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was queued.',
    `started_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it started, corrected.',
    `started_at_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around started_at, milliseconds.',
    `finished_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it reached its terminal state, corrected.',
    `finished_at_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around finished_at, milliseconds.',
    `duration_ms` Nullable(Int64) COMMENT 'From start to end, milliseconds; null while either is unknown.',
    `duration_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around duration_ms, milliseconds.',
    `last_event_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'Corrected time of the latest event.',
    `outcome_reason` LowCardinality(String) COMMENT 'Why it is in this state, a word of a closed list.',
    `error` String COMMENT 'What went wrong, as reported.',
    `exit_code` Nullable(Int64) COMMENT 'Exit code of the deploy script.',
    `event_count` Int64 COMMENT 'Number of different events that this content derives from, progress reports left out.',
    `cohorts` Map(String, String) COMMENT 'State of each cohort by its name.',
    `sources` Array(String) COMMENT 'Adapters that reported on it, sorted.',
    `provenance` LowCardinality(String) COMMENT 'Whether somebody reported this, or it was inferred from what is seen.',
    `confidence` Float64 COMMENT 'Lowest confidence of the events that it derives from, 0 to 1.',
    `conflicts` Map(String, String) COMMENT 'Fields on which sources disagree, with the values that lost.'
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (region, deployment_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Storage of the view `deployments`: the newest revision of each record, once merged';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.current_deployments_feed TO {database}.current_deployments
AS SELECT * FROM {database}.deployment_revisions;

INSERT INTO {database}.current_deployments SELECT * FROM {database}.deployment_revisions;

CREATE OR REPLACE VIEW {database}.deployments
AS SELECT * FROM {database}.current_deployments FINAL
COMMENT 'One row per deployment, as it is known now; the same id in two regions is two deployments';

CREATE OR REPLACE VIEW {database}.standing_findings
AS SELECT * FROM {database}.findings
ORDER BY kafka_partition, kafka_offset DESC LIMIT 1 BY region, rule, signal_id, deployment_id
COMMENT 'The newest verdict of each rule on each subject of a region: every subject stays in one partition, so the last written stands';
