CREATE VIEW IF NOT EXISTS {database}.coverage
AS WITH
    seen AS
    (
        SELECT DISTINCT region, environment, service, version, artifact_digest
        FROM {database}.observations
        WHERE observation_type = 'running'
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
    ),
    known AS
    (
        SELECT region, environment, service, reported_team, sources, state, counted_at
        FROM {database}.deployments_known(as_of = {until:DateTime64(6, 'UTC')})
        WHERE provenance = 'reported' AND state NOT IN ('voided', 'unknown')
            AND counted_at >= {since:DateTime64(6, 'UTC')} AND counted_at < {until:DateTime64(6, 'UTC')}
            AND deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
                since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
    ),
    reported AS
    (
        SELECT region, environment, service, version, artifact_digest, sources, started_at
        FROM {database}.deployment_revisions
        WHERE provenance = 'reported' AND state NOT IN ('voided', 'unknown') AND recorded_at < {until:DateTime64(6, 'UTC')}
    ),
    tools AS
    (
        SELECT region, environment, service, argMax(if(empty(sources), '', sources[1]), coalesce(started_at, toDateTime64(0, 6, 'UTC'))) AS tool
        FROM reported GROUP BY region, environment, service
    ),
    owners AS
    (
        SELECT service, team FROM {database}.service_owners(as_of = {until:DateTime64(6, 'UTC')})
        WHERE effective_from < {until:DateTime64(6, 'UTC')} AND effective_until >= {until:DateTime64(6, 'UTC')}
    ),
    unmapped AS
    (
        SELECT DISTINCT arrayJoin(['environment', 'region']) AS field, evidence[field] AS name
        FROM {database}.standing_findings
        WHERE rule = 'unmapped_name' AND verdict = 'violation' AND evidence[field] != ''
            AND occurred_at >= {since:DateTime64(6, 'UTC')} AND occurred_at < {until:DateTime64(6, 'UTC')}
    ),
    versions AS (SELECT DISTINCT region, environment, service, version FROM reported WHERE version != ''),
    digests AS (SELECT DISTINCT region, environment, service, artifact_digest FROM reported WHERE artifact_digest != '')
SELECT
    if(o.team != '', o.team, x.team) AS team,
    x.tool AS tool,
    sum(x.running) AS running,
    sum(x.registered) AS running_registered,
    if(running = 0, NULL, running_registered / running) AS coverage,
    sum(x.deployments) AS deployments,
    sum(x.no_end) AS without_end,
    if(deployments = 0, NULL, without_end / deployments) AS missing_end_rate,
    sum(x.not_mapped) AS unmapped,
    if(deployments = 0, NULL, unmapped / deployments) AS unmapped_rate
FROM
(
    SELECT
        s.service AS service, '' AS team, t.tool AS tool,
        1 AS running,
        (s.version != '' AND (s.region, s.environment, s.service, s.version) IN versions)
            OR (s.artifact_digest != '' AND (s.region, s.environment, s.service, s.artifact_digest) IN digests) AS registered,
        0 AS deployments, 0 AS no_end, 0 AS not_mapped
    FROM seen AS s
    LEFT JOIN tools AS t ON t.region = s.region AND t.environment = s.environment AND t.service = s.service
    UNION ALL
    SELECT
        service, reported_team, if(empty(sources), '', sources[1]),
        0, 0, 1,
        state = 'lost',
        ('environment', toString(environment)) IN unmapped OR ('region', toString(region)) IN unmapped
    FROM known
) AS x
LEFT JOIN owners AS o ON o.service = x.service
GROUP BY team, tool
ORDER BY team, tool
COMMENT 'Coverage per owning team and tool: what is seen to run of which a deployment was reported, deployments without an end, and in names that no policy knows; what no tool ever deployed has an empty one';

CREATE VIEW IF NOT EXISTS {database}.broken_ticket_links
AS WITH tickets AS
    (
        SELECT change_ticket AS ticket, groupUniqArrayIf(deployment_id, deployment_id != '') AS named,
            argMax(ticket_state, corrected_at) AS last_state
        FROM {database}.approvals
        WHERE change_ticket != ''
        GROUP BY ticket
    )
SELECT
    d.deployment_id AS deployment_id, d.region AS region, d.service AS service, d.counted_at AS at,
    d.change_ticket AS ticket,
    multiIf(d.change_ticket = '', 'no_ticket',
        t.ticket = '', 'ticket_unknown',
        notEmpty(t.named) AND NOT has(t.named, d.deployment_id), 'ticket_names_other_deployment',
        '') AS reason
FROM {database}.deployments_known(as_of = '2299-12-31 00:00:00') AS d
LEFT JOIN tickets AS t ON t.ticket = d.change_ticket
WHERE d.environment = {environment:String} AND d.counted_at >= {since:DateTime64(6, 'UTC')} AND d.counted_at < {until:DateTime64(6, 'UTC')}
    AND d.state NOT IN ('voided', 'cancelled', 'registered') AND reason != ''
    AND d.deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
    AND d.deployment_id NOT IN (SELECT deployment_id FROM {database}.deployment_parts)
UNION ALL
SELECT a.deployment_id, a.region, a.service, a.at, a.ticket, 'deployment_unknown'
FROM
(
    SELECT deployment_id, region, service, change_ticket AS ticket, max(corrected_at) AS at
    FROM {database}.approvals
    WHERE change_ticket != '' AND deployment_id != '' AND environment = {environment:String}
        AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
    GROUP BY deployment_id, region, service, ticket
) AS a
WHERE a.deployment_id NOT IN (SELECT deployment_id FROM {database}.deployment_revisions)
COMMENT 'Links between deployments and change tickets that do not hold both ways: no ticket, a ticket that its system never named, a ticket that names other deployments, a ticket that names a deployment nobody reported';

CREATE VIEW IF NOT EXISTS {database}.access_review
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
            SELECT reporter, 'report' AS verb, count() AS n, max(received_at) AS last, groupUniqArray(toString(service)) AS services, groupUniqArrayIf(toString(deployer), deployer != '') AS people
            FROM {database}.deployment_events
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, if(approval_type IN ('registered', 'requested'), 'register', 'approve') AS verb, count(), max(received_at), groupUniqArray(toString(service)), groupUniqArrayIf(toString(approver), approver != '')
            FROM {database}.approvals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter, verb
            UNION ALL
            SELECT reporter, 'signal', count(), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.signals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, 'observe', count(), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.observations
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} GROUP BY reporter
        )
        GROUP BY reporter
    )
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
    multiIf(c.credential = '' AND d.reporter = '', 'unauthenticated', c.credential = '', 'no_grant_known', d.records = 0, 'unused', notEmpty(unused_verbs), 'partly_used', 'used') AS verdict
FROM could AS c
FULL OUTER JOIN did AS d ON d.reporter = c.credential
ORDER BY indexOf(['unused', 'partly_used', 'no_grant_known', 'unauthenticated', 'used'], verdict), credential
COMMENT 'Who could against who did: each credential that held in [since, until), by the newest reading of the credentials then, unused ones first; and who reported without a grant that is known';

CREATE VIEW IF NOT EXISTS {database}.loss
AS SELECT
    producer_id,
    min(seq) AS first_seq,
    max(seq) AS last_seq,
    uniqExact(seq) AS arrived,
    last_seq - first_seq + 1 - arrived AS missing,
    sum(told) AS told_lost,
    missing / (last_seq - first_seq + 1) AS loss_rate
FROM
(
    SELECT producer_id, producer_seq AS seq, 0 AS told FROM {database}.deployment_events
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, toInt64OrZero(tags['producer_seq']), 0 FROM {database}.approvals
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, toInt64OrZero(labels['producer_seq']), toInt64OrZero(labels['lost_events'])
    FROM {database}.distinct_signals
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
)
WHERE seq > 0 AND producer_id != ''
GROUP BY producer_id
ORDER BY missing DESC, producer_id
COMMENT 'Loss per producer: numbers of its gapless count that never arrived among those received in [since, until); told_lost is what it said itself found no room in its spool';

CREATE VIEW IF NOT EXISTS {database}.ingest_lag
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
)
GROUP BY region
ORDER BY region
COMMENT 'Ingest lag per region in milliseconds, as [p50, p99]: from what happened to its receipt, in the reporter\'s spool by its own clock, and from receipt to the trail';

CREATE VIEW IF NOT EXISTS {database}.tracker_slo
AS WITH
    (
        SELECT (count(), countIf(dateDiff('millisecond', received_at, kafka_timestamp) > {limit_ms:UInt32}))
        FROM {database}.deployment_events
        WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
    ) AS seen,
    (SELECT sum(missing) + sum(told_lost) FROM {database}.loss(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})) AS lost_events,
    (
        SELECT count() FROM {database}.dead_letters
        WHERE kafka_timestamp >= {since:DateTime64(6, 'UTC')} AND kafka_timestamp < {until:DateTime64(6, 'UTC')}
            AND reason NOT IN ('unauthenticated', 'out_of_scope')
    ) AS set_aside
SELECT
    seen.1 + lost_events + set_aside AS total,
    seen.2 AS late,
    lost_events AS lost,
    set_aside AS dead_letters,
    late + lost + dead_letters AS bad,
    if(total = 0, NULL, 1 - bad / total) AS availability,
    {objective:Float64} AS objective,
    (1 - objective) * total AS budget,
    if(budget = 0, NULL, bad / budget) AS budget_spent
COMMENT 'The tracker\'s own objective: of all events of [since, until), those that reached the trail within limit_ms of their receipt; late, lost (gaps of the producers\' counts) and set aside ones spend the budget'
