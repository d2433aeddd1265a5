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

CREATE OR REPLACE VIEW {database}.incident_timeline
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
        SELECT *
        FROM
        (
            SELECT * FROM {database}.deployment_revisions
            WHERE deployment_id IN
                (SELECT deployment_id FROM {database}.deployment_revisions WHERE rollback_of IN (SELECT deployment_id FROM candidates))
            ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id
        )
        WHERE rollback_of IN (SELECT deployment_id FROM candidates) AND merged_into = ''
    ),
    verdicts AS
    (
        SELECT * FROM {database}.findings
        WHERE (rule IN ('incident_correlation', 'alert_suppression') AND signal_id IN (SELECT signal_id FROM about))
            OR (rule = 'rollback_verification' AND deployment_id IN (SELECT deployment_id FROM undoing))
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
        SELECT * FROM verdicts
        WHERE (kafka_partition, finding_id) NOT IN
        (
            SELECT kafka_partition, supersedes FROM {database}.findings WHERE supersedes IN (SELECT finding_id FROM verdicts)
        )
        ORDER BY kafka_partition, kafka_offset
        LIMIT 1 BY kafka_partition, finding_id
    )
)
ORDER BY at, entry, kafka_offset
COMMENT 'One incident, or the alert of a signal_id: its signals, the changes that may have caused it with their probability, their rollbacks and the verdicts, by corrected time';

CREATE OR REPLACE VIEW {database}.access_review
AS WITH
    could AS
    (
        SELECT * FROM {database}.grants
        WHERE taken_at = (SELECT max(taken_at) FROM {database}.grants WHERE taken_at <= {until:DateTime64(6, 'UTC')})
            AND created_at < {until:DateTime64(6, 'UTC')}
            AND (expires_at IS NULL OR expires_at > {since:DateTime64(6, 'UTC')})
            AND (revoked_at IS NULL OR revoked_at > {since:DateTime64(6, 'UTC')})
    ),
    did AS
    (
        SELECT reporter, sum(n) AS records, max(last) AS last_used_at,
            arraySort(groupUniqArrayArray(services)) AS services_used, arraySort(groupUniqArray(verb)) AS verbs_used,
            arraySort(groupUniqArrayArray(people)) AS people
        FROM
        (
            SELECT reporter, 'report' AS verb, uniqExact(event_id) AS n, max(received_at) AS last, groupUniqArray(toString(service)) AS services, groupUniqArrayIf(toString(deployer), deployer != '') AS people
            FROM {database}.deployment_events
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, if(approval_type IN ('registered', 'requested'), 'register', 'approve') AS verb, uniqExact(approval_id), max(received_at), groupUniqArray(toString(service)), groupUniqArrayIf(toString(approver), approver != '')
            FROM {database}.approvals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter, verb
            UNION ALL
            SELECT reporter, 'signal', uniqExact(signal_id), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.signals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, 'observe', uniqExact(observation_id), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.observations
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
        )
        GROUP BY reporter
    ),
    holders AS
    (
        SELECT
            holder.1 AS role, holder.2 AS person,
            if(countIf(empty(services)) > 0, ['*'], arraySort(groupUniqArrayArray(services))) AS could_services,
            if(countIf(empty(environments)) > 0, ['*'], arraySort(groupUniqArrayArray(environments))) AS could_environments,
            if(countIf(empty(regions)) > 0, ['*'], arraySort(groupUniqArrayArray(regions))) AS could_regions
        FROM {database}.role_holders(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})
        GROUP BY holder
    ),
    approved AS
    (
        SELECT
            toString(approver) AS person, toString(approver_role) AS named_role, uniqExact(approval_id) AS n, max(received_at) AS last,
            groupUniqArray(toString(service)) AS services
        FROM {database}.approvals
        WHERE approver != '' AND approval_type IN ('approved', 'rejected', 'revoked')
            AND received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
        GROUP BY person, named_role
    )
SELECT *
FROM
(
    SELECT
        if(c.credential != '', c.credential, toString(d.reporter)) AS credential,
        c.team AS team,
        c.verbs AS could_verbs,
        c.services AS could_services,
        c.environments AS could_environments,
        c.regions AS could_regions,
        d.records AS records,
        d.verbs_used AS did_verbs,
        d.services_used AS did_services,
        d.people AS people,
        if(d.records = 0, NULL, d.last_used_at) AS last_used_at,
        arrayFilter(verb -> NOT has(d.verbs_used, verb), c.verbs) AS unused_verbs,
        multiIf(c.credential = '' AND d.reporter = '', 'unauthenticated', c.credential = '', 'no_grant_known', d.records = 0, 'unused', notEmpty(unused_verbs), 'partly_used', 'used') AS verdict,
        'credential' AS through
    FROM could AS c
    FULL OUTER JOIN did AS d ON d.reporter = c.credential
    UNION ALL
    SELECT
        person, '', ['approve'], could_services, could_environments, could_regions,
        times, if(times > 0, ['approve'], []), services, [person],
        if(times = 0, NULL, last_at), if(times > 0, [], ['approve']), if(times > 0, 'used', 'unused'), concat('role ', role)
    FROM
    (
        SELECT
            h.person AS person, h.role AS role,
            any(h.could_services) AS could_services, any(h.could_environments) AS could_environments, any(h.could_regions) AS could_regions,
            sumIf(a.n, a.named_role IN ('', h.role)) AS times,
            maxIf(a.last, a.named_role IN ('', h.role)) AS last_at,
            arraySort(groupUniqArrayArrayIf(a.services, a.named_role IN ('', h.role))) AS services
        FROM holders AS h
        LEFT JOIN approved AS a ON a.person = h.person
        GROUP BY person, role
    )
)
ORDER BY indexOf(['unused', 'partly_used', 'no_grant_known', 'unauthenticated', 'used'], verdict), through, credential
COMMENT 'Who could against who did, unused ones first: each credential that held in [since, until), by the newest reading of the credentials then; who reported without a grant that is known; and each holder of a role of an approval policy in force then, who may approve';

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
