ALTER TABLE {database}.findings ADD INDEX IF NOT EXISTS by_superseded supersedes TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.findings MATERIALIZE INDEX by_superseded;

CREATE OR REPLACE VIEW {database}.deployment_timeline
AS SELECT *
FROM
(
    SELECT
        corrected_at AS at, uncertainty_ms, 'event' AS entry, toString(event_type) AS what,
        multiIf(error != '', error, cohort != '', concat('cohort ', cohort), version) AS detail,
        toString(deployer) AS who, toString(source) AS source, toString(provenance) AS provenance,
        kafka_partition, kafka_offset
    FROM (SELECT * FROM {database}.deployment_events WHERE deployment_id = {deployment_id:String}
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id)
    UNION ALL
    SELECT
        corrected_at, uncertainty_ms, 'approval', toString(approval_type),
        if(justification != '', justification, change_ticket), toString(approver), toString(source), 'reported',
        kafka_partition, kafka_offset
    FROM (SELECT * FROM {database}.approvals WHERE deployment_id = {deployment_id:String}
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY approval_id)
    UNION ALL
    SELECT
        occurred_at, 0, 'finding', concat(toString(rule), ' ', toString(verdict)), explanation, '', 'deploytrail', 'inferred',
        kafka_partition, kafka_offset
    FROM (SELECT * FROM {database}.findings WHERE deployment_id = {deployment_id:String} AND rule != 'incident_correlation'
            AND (kafka_partition, finding_id) NOT IN
            (
                SELECT kafka_partition, supersedes FROM {database}.findings
                WHERE supersedes IN (SELECT finding_id FROM {database}.findings WHERE deployment_id = {deployment_id:String})
            )
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY kafka_partition, finding_id)
    UNION ALL
    SELECT
        s.corrected_at, s.uncertainty_ms, 'alert', concat(toString(s.severity), ' ', s.title),
        concat(toString(round(f.probability * 100)), ' % likely caused by it'), '', toString(s.source), 'reported',
        s.kafka_partition, s.kafka_offset
    FROM
    (
        SELECT signal_id, rank, probability FROM {database}.findings
        WHERE deployment_id = {deployment_id:String} AND rule = 'incident_correlation'
        ORDER BY kafka_partition, kafka_offset DESC LIMIT 1 BY region, signal_id
    ) AS f
    INNER JOIN
    (
        SELECT * FROM {database}.signals
        WHERE signal_id IN (SELECT signal_id FROM {database}.findings
            WHERE deployment_id = {deployment_id:String} AND rule = 'incident_correlation')
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY signal_id
    ) AS s ON s.signal_id = f.signal_id
    WHERE f.rank > 0
)
ORDER BY at, entry, kafka_offset
COMMENT 'All that is known of one deployment in order of corrected time: events, approvals, verdicts, and the alerts that it may have caused';

CREATE OR REPLACE VIEW {database}.ingest_lag
AS SELECT
    region,
    count() AS records,
    quantilesExact(0.5, 0.99)(occurred_to_received) AS occurred_to_received_ms,
    quantilesExact(0.5, 0.99)(in_spool) AS in_spool_ms,
    quantilesExact(0.5, 0.99)(received_to_trail) AS received_to_trail_ms
FROM
(
    SELECT region, corrected_at, received_at, kafka_timestamp, occurred_at, sent_at,
        dateDiff('millisecond', corrected_at, received_at) AS occurred_to_received,
        dateDiff('millisecond', occurred_at, coalesce(sent_at, occurred_at)) AS in_spool,
        dateDiff('millisecond', received_at, kafka_timestamp) AS received_to_trail
    FROM {database}.deployment_events
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
    ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id
)
GROUP BY region
ORDER BY region
COMMENT 'Ingest lag per region in milliseconds, as [p50, p99]: from what happened to its receipt, in the reporter\'s spool by its own clock, and from receipt to the trail';
