CREATE OR REPLACE VIEW {database}.broken_ticket_links_as_of
AS WITH
    tickets AS
    (
        SELECT change_ticket AS ticket, groupUniqArrayIf(deployment_id, deployment_id != '') AS named,
            argMax(ticket_state, corrected_at) AS last_state
        FROM {database}.approvals
        -- what a deploy script writes of its own ticket proves nothing of the ticket
        WHERE change_ticket != '' AND approval_type NOT IN ('registered', 'permit_issued', 'permit_used')
            AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        GROUP BY ticket
    ),
    known AS
    (
        SELECT region, deployment_id, environment, service, state, change_ticket, part_of, merged_into, coalesce(started_at, finished_at) AS counted_at
        FROM {database}.deployment_revisions
        WHERE kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} AND deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
        ORDER BY revision DESC, kafka_offset DESC, kafka_partition DESC LIMIT 1 BY region, deployment_id
    )
SELECT
    d.deployment_id AS deployment_id, d.region AS region, d.service AS service, d.counted_at AS at,
    d.change_ticket AS ticket,
    multiIf(d.change_ticket = '', 'no_ticket',
        t.ticket = '', 'ticket_unknown',
        notEmpty(t.named) AND NOT has(t.named, d.deployment_id), 'ticket_names_other_deployment',
        '') AS reason
FROM known AS d
LEFT JOIN tickets AS t ON t.ticket = d.change_ticket
WHERE d.environment = {environment:String} AND d.counted_at >= {since:DateTime64(6, 'UTC')} AND d.counted_at < {until:DateTime64(6, 'UTC')}
    AND d.state NOT IN ('voided', 'cancelled', 'registered') AND reason != ''
    AND d.merged_into = ''
    AND d.part_of = ''
UNION ALL
SELECT a.deployment_id, a.region, a.service, a.at, a.ticket, 'deployment_unknown'
FROM
(
    SELECT deployment_id, region, service, change_ticket AS ticket, max(corrected_at) AS at
    FROM {database}.approvals
    WHERE change_ticket != '' AND deployment_id != '' AND environment = {environment:String}
        AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    GROUP BY deployment_id, region, service, ticket
) AS a
WHERE a.deployment_id NOT IN
(
    SELECT deployment_id FROM {database}.deployment_revisions
    WHERE kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} AND deployment_id IN
    (
        SELECT deployment_id FROM {database}.approvals
        WHERE change_ticket != '' AND environment = {environment:String}
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
    )
)
COMMENT 'Links between deployments and change tickets that do not hold both ways: no ticket, a ticket that only whoever deploys named, a ticket that names other deployments, a ticket that names a deployment nobody reported; as it was known at as_of, by Kafka\'s time';

CREATE OR REPLACE VIEW {database}.incident_timeline_as_of
AS WITH
    about AS
    (
        SELECT * FROM {database}.signals
        WHERE (signal_id = {incident:String} OR incident_id = {incident:String}) AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    ),
    (SELECT min(corrected_at) FROM about) AS began,
    answers AS
    (
        SELECT *
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND signal_id IN (SELECT signal_id FROM about) AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
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
        SELECT *
        FROM
        (
            SELECT * FROM {database}.deployment_revisions
            WHERE deployment_id IN
                (SELECT deployment_id FROM {database}.deployment_revisions WHERE rollback_of IN (SELECT deployment_id FROM candidates))
                AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id
        )
        WHERE rollback_of IN (SELECT deployment_id FROM candidates) AND merged_into = ''
    ),
    verdicts AS
    (
        SELECT * FROM {database}.findings
        WHERE ((rule IN ('incident_correlation', 'alert_suppression') AND signal_id IN (SELECT signal_id FROM about))
                OR (rule = 'rollback_verification' AND deployment_id IN (SELECT deployment_id FROM undoing)))
            AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
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
        WHERE (signal_id IN (SELECT signal_id FROM about)
                OR ((region, environment, service) IN (SELECT region, environment, service FROM about)
                    AND fingerprint IN (SELECT fingerprint FROM about WHERE fingerprint != '')
                    AND corrected_at >= began AND corrected_at <= began + INTERVAL 7 DAY AND signal_type != 'unknown'))
            AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        ORDER BY kafka_partition, kafka_offset LIMIT 1 BY signal_id
    )
    UNION ALL
    SELECT
        e.corrected_at, e.uncertainty_ms, 'event', toString(e.event_type), toString(e.service), e.deployment_id,
        multiIf(e.error != '', e.error, e.version), toString(e.source), toString(e.provenance), c.likelihood, e.kafka_offset
    FROM
    (
        SELECT * FROM {database}.deployment_events
        WHERE deployment_id IN (SELECT deployment_id FROM candidates) AND event_type != 'progressed' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
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
        SELECT * FROM verdicts
        WHERE (kafka_partition, finding_id) NOT IN
        (
            SELECT kafka_partition, supersedes FROM {database}.findings
            WHERE supersedes IN (SELECT finding_id FROM verdicts) AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        )
        ORDER BY kafka_partition, kafka_offset
        LIMIT 1 BY kafka_partition, finding_id
    )
)
ORDER BY at, entry, kafka_offset, what, service, deployment_id
COMMENT 'One incident, or the alert of a signal_id: its signals, the changes that may have caused it with their probability, their rollbacks and the verdicts, by corrected time; as it was known at as_of, by Kafka\'s time';

CREATE OR REPLACE VIEW {database}.broken_ticket_links
AS SELECT * FROM {database}.broken_ticket_links_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, environment = {environment:String}, as_of = '2299-12-31 00:00:00')
COMMENT 'Links between deployments and change tickets that do not hold both ways: no ticket, a ticket that only whoever deploys named, a ticket that names other deployments, a ticket that names a deployment nobody reported';

CREATE OR REPLACE VIEW {database}.incident_timeline
AS SELECT * FROM {database}.incident_timeline_as_of(incident = {incident:String}, as_of = '2299-12-31 00:00:00')
ORDER BY at, entry, kafka_offset, what, service, deployment_id
COMMENT 'One incident, or the alert of a signal_id: its signals, the changes that may have caused it with their probability, their rollbacks and the verdicts, by corrected time'
