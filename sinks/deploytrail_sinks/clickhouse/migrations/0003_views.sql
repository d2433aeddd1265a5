CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.current_deployments_feed TO {database}.current_deployments
AS SELECT * FROM {database}.deployment_revisions;

CREATE VIEW IF NOT EXISTS {database}.deployments
AS SELECT * FROM {database}.current_deployments FINAL
COMMENT 'One row per deployment, as it is known now';

CREATE VIEW IF NOT EXISTS {database}.distinct_deployment_events
AS SELECT * FROM {database}.deployment_events ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id
COMMENT 'Every event once, also where its producer sent it again after the intake app had forgotten it';

CREATE VIEW IF NOT EXISTS {database}.distinct_signals
AS SELECT * FROM {database}.signals ORDER BY kafka_partition, kafka_offset LIMIT 1 BY signal_id
COMMENT 'Every signal once';

CREATE VIEW IF NOT EXISTS {database}.standing_findings
AS SELECT * FROM {database}.findings
ORDER BY kafka_partition, kafka_offset DESC LIMIT 1 BY rule, signal_id, deployment_id
COMMENT 'The newest verdict of each rule on each subject: every subject stays in one partition, so the last written stands';

CREATE VIEW IF NOT EXISTS {database}.active_deployments
AS SELECT * FROM {database}.deployments WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded')
COMMENT 'What is being deployed now';

CREATE VIEW IF NOT EXISTS {database}.incident_candidates
AS SELECT
    f.signal_id AS signal_id,
    s.title AS signal_title,
    s.severity AS severity,
    s.corrected_at AS signal_at,
    f.region AS region,
    f.environment AS environment,
    f.service AS service,
    f.rank AS rank,
    f.probability AS probability,
    f.deployment_id AS deployment_id,
    f.reason AS reason,
    f.explanation AS explanation
FROM {database}.standing_findings AS f
LEFT JOIN {database}.distinct_signals AS s ON s.signal_id = f.signal_id
WHERE f.rule = 'incident_correlation' AND f.rank > 0
COMMENT 'What may have caused each alert; probabilities of one signal sum to one, an empty deployment_id is none of them';
