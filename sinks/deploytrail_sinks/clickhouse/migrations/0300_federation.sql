CREATE TABLE IF NOT EXISTS {database}.federated_current
(
    `kafka_partition` Int32 COMMENT 'Partition of the record.',
    `kafka_offset` Int64 COMMENT 'Offset of the record in its partition.',
    `kafka_timestamp` DateTime64(3, 'UTC') COMMENT 'Kafka\'s timestamp of the record.',
    `deployment_id` String COMMENT 'Names the deployment; of several names the one that stands for it.',
    `revision` Int64 COMMENT 'Sum of the revisions of all claims; the highest is current.',
    `state` LowCardinality(String) COMMENT 'State of the deployment, as it follows from what all clusters claim.',
    `recorded_at` DateTime64(6, 'UTC') COMMENT 'When the newest of the claims was derived, in its cluster.',
    `environment` LowCardinality(String) COMMENT 'Environment name, e.g. production.',
    `service` LowCardinality(String) COMMENT 'Service name, the unit that is deployed.',
    `tier` LowCardinality(String) COMMENT 'Tier of the service.',
    `team` LowCardinality(String) COMMENT 'Team that owns the service.',
    `kind` LowCardinality(String) COMMENT 'What kind of change was deployed.',
    `strategy` LowCardinality(String) COMMENT 'How the change reaches its instances.',
    `parent_deployment_id` String COMMENT 'Deployment that this one is a part of.',
    `part_of` String COMMENT 'Deployment that this one is counted as a part of, where that is known; empty: it counts for itself.',
    `rollback_of` String COMMENT 'Deployment that this one undoes.',
    `rolled_back_by` String COMMENT 'Deployment that undid this one.',
    `superseded_by` String COMMENT 'The next deployment of the same place that succeeded behind this one.',
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
    `emergency` Bool COMMENT 'Whether a cluster heard it declared an emergency.',
    `started_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When its first region started, corrected; of several words about it the most certain.',
    `started_at_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around started_at, milliseconds.',
    `finished_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When its last region reached the end that it is in, corrected.',
    `finished_at_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around finished_at, milliseconds.',
    `duration_ms` Nullable(Int64) COMMENT 'From start to end, milliseconds; null while either is unknown.',
    `duration_uncertainty_ms` Nullable(Int64) COMMENT 'Half width around duration_ms, milliseconds.',
    `last_event_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'Corrected time of the latest event that any cluster heard.',
    `outcome_reason` LowCardinality(String) COMMENT 'Why it is in this state, a word of a closed list.',
    `error` String COMMENT 'What went wrong, as reported.',
    `exit_code` Nullable(Int64) COMMENT 'Exit code of the deploy script.',
    `provenance` LowCardinality(String) COMMENT 'Whether somebody reported the state, or it was inferred.',
    `confidence` Float64 COMMENT 'Confidence of the claim that the state is taken from, 0 to 1.',
    `sources` Array(String) COMMENT 'Adapters that reported on it in any cluster, sorted.',
    `deployment_ids` Array(String) COMMENT 'Ids under which clusters know it, sorted, its own among them.',
    `merged_into` String COMMENT 'Deployment that this id is another name of; its record stands for both. Empty: this record stands for itself.',
    `regions` Map(String, String) COMMENT 'State in each region by its name.',
    `clusters` Array(String) COMMENT 'Clusters that claim anything of it, sorted.',
    `decided_by` Array(String) COMMENT 'Whose claims the states of its regions are, cluster/region.',
    `conflicts` Map(String, String) COMMENT 'Fields on which clusters disagree: what counts by whose word, and who says otherwise.',
    `claims` Map(String, String) COMMENT 'Each cluster\'s own newest record by cluster/region (and id, if it is another one), as JSON.'
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY deployment_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Storage of the view `federated_deployments`: the newest federated record of each id, once merged';

CREATE OR REPLACE VIEW {database}.federated_deployments
AS SELECT * FROM {database}.federated_current FINAL WHERE merged_into = ''
COMMENT 'One row per deployment as all federated clusters know it, whatever ids they know it by, with what each of them claims';
