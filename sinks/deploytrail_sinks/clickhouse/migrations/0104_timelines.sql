CREATE VIEW IF NOT EXISTS {database}.deployment_timeline
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
        ORDER BY kafka_partition, kafka_offset DESC LIMIT 1 BY region, rule, signal_id, deployment_id)
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

CREATE VIEW IF NOT EXISTS {database}.incident_timeline
AS WITH
    about AS
    (
        SELECT * FROM {database}.signals WHERE signal_id = {incident:String} OR incident_id = {incident:String}
    ),
    (SELECT min(corrected_at) FROM about) AS began,
    answers AS
    (
        SELECT *
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND signal_id IN (SELECT signal_id FROM about)
        ORDER BY kafka_partition, kafka_offset DESC
        LIMIT 1 BY region, signal_id, deployment_id
    ),
    candidates AS
    (
        SELECT deployment_id, max(probability) AS likelihood
        FROM answers
        WHERE rank > 0 AND deployment_id != ''
        GROUP BY deployment_id
    ),
    undoing AS
    (
        SELECT * FROM {database}.deployment_revisions
        WHERE rollback_of IN (SELECT deployment_id FROM candidates)
        ORDER BY revision DESC LIMIT 1 BY region, deployment_id
    )
SELECT *
FROM
(
    SELECT
        corrected_at AS at, uncertainty_ms, 'signal' AS entry, toString(signal_type) AS what,
        toString(service) AS service, '' AS deployment_id, concat(toString(severity), ' ', title) AS detail,
        toString(source) AS source, 'reported' AS provenance, CAST(NULL, 'Nullable(Float64)') AS probability, kafka_offset
    FROM
    (
        SELECT * FROM {database}.signals
        WHERE signal_id IN (SELECT signal_id FROM about)
            OR ((region, environment, service) IN (SELECT region, environment, service FROM about)
                AND fingerprint IN (SELECT fingerprint FROM about WHERE fingerprint != '')
                AND corrected_at >= began AND corrected_at <= began + INTERVAL 7 DAY AND signal_type != 'unknown')
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY signal_id
    )
    UNION ALL
    SELECT
        e.corrected_at, e.uncertainty_ms, 'event', toString(e.event_type), toString(e.service), e.deployment_id,
        multiIf(e.error != '', e.error, e.version), toString(e.source), toString(e.provenance), c.likelihood, e.kafka_offset
    FROM
    (
        SELECT * FROM {database}.deployment_events
        WHERE deployment_id IN (SELECT deployment_id FROM candidates) AND event_type != 'progressed'
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id
    ) AS e
    INNER JOIN candidates AS c ON c.deployment_id = e.deployment_id
    UNION ALL
    SELECT
        assumeNotNull(started_at), coalesce(started_at_uncertainty_ms, 0), 'rollback', toString(state), toString(service),
        deployment_id, concat('undoes ', rollback_of), arrayStringConcat(sources, ','), toString(provenance), NULL, kafka_offset
    FROM undoing
    WHERE started_at IS NOT NULL
    UNION ALL
    SELECT
        occurred_at, 0, 'verdict', toString(reason), toString(service), deployment_id, explanation,
        'deploytrail', 'inferred', probability, kafka_offset
    FROM
    (
        SELECT * FROM {database}.findings
        WHERE (rule IN ('incident_correlation', 'alert_suppression') AND signal_id IN (SELECT signal_id FROM about))
            OR (rule = 'rollback_verification' AND deployment_id IN (SELECT deployment_id FROM undoing))
        ORDER BY kafka_partition, kafka_offset DESC
        LIMIT 1 BY region, rule, signal_id, deployment_id
    )
)
ORDER BY at, entry, kafka_offset
COMMENT 'One incident, or the alert of a signal_id: its signals, the changes that may have caused it with their probability, their rollbacks and the verdicts, by corrected time'
