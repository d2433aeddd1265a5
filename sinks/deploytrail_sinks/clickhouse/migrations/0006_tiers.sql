CREATE TABLE IF NOT EXISTS {database}.deployment_events_rehydrated AS {database}.deployment_events
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table deployment_events that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_deployment_events
AS SELECT * FROM {database}.deployment_events
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.deployment_events_rehydrated)
UNION ALL
SELECT * FROM {database}.deployment_events_rehydrated FINAL
COMMENT 'All events of deployments of every tier: hot, cold, and what was brought back from the archive, each once';

CREATE TABLE IF NOT EXISTS {database}.signals_rehydrated AS {database}.signals
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table signals that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_signals
AS SELECT * FROM {database}.signals
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.signals_rehydrated)
UNION ALL
SELECT * FROM {database}.signals_rehydrated FINAL
COMMENT 'All alerts, incidents and health checks of every tier: hot, cold, and what was brought back from the archive, each once';

CREATE TABLE IF NOT EXISTS {database}.approvals_rehydrated AS {database}.approvals
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table approvals that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_approvals
AS SELECT * FROM {database}.approvals
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.approvals_rehydrated)
UNION ALL
SELECT * FROM {database}.approvals_rehydrated FINAL
COMMENT 'All approvals of every tier: hot, cold, and what was brought back from the archive, each once';

CREATE TABLE IF NOT EXISTS {database}.observations_rehydrated AS {database}.observations
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table observations that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_observations
AS SELECT * FROM {database}.observations
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.observations_rehydrated)
UNION ALL
SELECT * FROM {database}.observations_rehydrated FINAL
COMMENT 'All observations of every tier: hot, cold, and what was brought back from the archive, each once';

CREATE TABLE IF NOT EXISTS {database}.deployment_revisions_rehydrated AS {database}.deployment_revisions
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table deployment_revisions that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_deployment_revisions
AS SELECT * FROM {database}.deployment_revisions
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.deployment_revisions_rehydrated)
UNION ALL
SELECT * FROM {database}.deployment_revisions_rehydrated FINAL
COMMENT 'All revisions of deployments of every tier: hot, cold, and what was brought back from the archive, each once';

CREATE TABLE IF NOT EXISTS {database}.findings_rehydrated AS {database}.findings
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of the table findings that were brought back from the archive on demand';

CREATE VIEW IF NOT EXISTS {database}.all_findings
AS SELECT * FROM {database}.findings
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.findings_rehydrated)
UNION ALL
SELECT * FROM {database}.findings_rehydrated FINAL
COMMENT 'All findings of every tier: hot, cold, and what was brought back from the archive, each once';
