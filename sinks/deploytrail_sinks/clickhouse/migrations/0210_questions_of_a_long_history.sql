ALTER TABLE {database}.deployment_revisions ADD PROJECTION IF NOT EXISTS by_part
    (SELECT part_of, deployment_id, revision, service ORDER BY part_of);

ALTER TABLE {database}.deployment_revisions MATERIALIZE PROJECTION by_part;

CREATE OR REPLACE VIEW {database}.deployment_parts
AS WITH links AS
    (
        SELECT deployment_id, argMax((part_of, service), revision) AS said, said.1 AS parent, said.2 AS of_service
        FROM {database}.deployment_revisions
        WHERE part_of != ''
        GROUP BY deployment_id
    )
SELECT
    a.deployment_id AS deployment_id,
    a.parent AS parent_deployment_id,
    multiIf(c.parent != '', c.parent, b.parent != '', b.parent, a.parent) AS root_deployment_id,
    a.of_service AS service
FROM links AS a
LEFT JOIN links AS b ON b.deployment_id = a.parent
LEFT JOIN links AS c ON c.deployment_id = b.parent
COMMENT 'Deployments that are a part of another one that is known, or another name of it, up to three levels below their root';

CREATE OR REPLACE VIEW {database}.deployments_known
AS SELECT
    region,
    deployment_id,
    known.1 AS state,
    known.2 AS environment,
    known.3 AS service,
    known.4 AS reported_team,
    known.5 AS kind,
    known.6 AS rollback_of,
    known.7 AS rolled_back_by,
    known.8 AS emergency,
    known.9 AS started_at,
    known.10 AS started_at_uncertainty_ms,
    known.11 AS finished_at,
    known.12 AS finished_at_uncertainty_ms,
    known.13 AS duration_ms,
    known.14 AS last_event_at,
    known.15 AS version,
    known.16 AS artifact_digest,
    known.17 AS commit_sha,
    known.18 AS deployer,
    known.19 AS change_ticket,
    known.20 AS feature_ticket,
    known.21 AS sources,
    known.22 AS registered_at,
    known.23 AS provenance,
    coalesce(known.9, known.11) AS counted_at,
    effect.1 AS succeeded_at
FROM
(
    SELECT
        region,
        deployment_id,
        argMax(
            tuple(
                state, environment, service, team, kind, rollback_of, rolled_back_by, emergency,
                started_at, started_at_uncertainty_ms, finished_at, finished_at_uncertainty_ms, duration_ms,
                last_event_at, version, artifact_digest, commit_sha, deployer, change_ticket, feature_ticket,
                sources, registered_at, provenance, merged_into
            ),
            (revision, kafka_offset)
        ) AS known,
        argMaxIf(tuple(finished_at), revision, state = 'succeeded') AS effect
    FROM {database}.deployment_revisions
    WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
    GROUP BY region, deployment_id
)
WHERE known.24 = ''
COMMENT 'One row per deployment as it was known at as_of; succeeded_at is when it took effect, also where it was undone later; another name of a deployment has none';

CREATE OR REPLACE VIEW {database}.begun_deployments
AS SELECT DISTINCT deployment_id
FROM {database}.deployment_revisions
WHERE coalesce(started_at, finished_at, toDateTime64(0, 6, 'UTC')) >= {since:DateTime64(6, 'UTC')}
    AND coalesce(started_at, finished_at, toDateTime64(0, 6, 'UTC')) < {until:DateTime64(6, 'UTC')}
COMMENT 'Deployments of which a revision says that they began in [since, until): those that a question has to look at whole';

CREATE OR REPLACE VIEW {database}.incident_causes
AS WITH
    answers AS
    (
        SELECT signal_id, deployment_id, argMax((rank, probability), kafka_offset) AS said
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            AND occurred_at >= {since:DateTime64(6, 'UTC')} - INTERVAL 1 DAY
        GROUP BY signal_id, deployment_id
    ),
    best AS
    (
        SELECT
            signal_id,
            argMaxIf((deployment_id, said.2), said.2, deployment_id != '') AS likely,
            maxIf(said.2, deployment_id = '') AS none
        FROM answers
        WHERE said.1 > 0
        GROUP BY signal_id
    ),
    alerts AS
    (
        SELECT
            signal_id, signal_type, region, environment, service, severity, title, incident_id,
            if(fingerprint != '', fingerprint, title) AS fingerprint,
            corrected_at AS at
        FROM {database}.signals
        WHERE received_at <= {as_of:DateTime64(6, 'UTC')} AND environment = {environment:String}
            AND signal_type IN ('alert_firing', 'alert_resolved', 'incident_opened', 'incident_resolved')
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND source != 'deploytrail'
        ORDER BY kafka_partition, kafka_offset
        LIMIT 1 BY signal_id
    )
SELECT
    f.signal_id AS signal_id,
    f.region AS region,
    f.environment AS environment,
    f.service AS service,
    f.severity AS severity,
    f.title AS title,
    f.incident_id AS incident_id,
    f.at AS began_at,
    if(toYear(r.at) > 1970, r.at, NULL) AS ended_at,
    b.likely.1 AS likely_deployment_id,
    coalesce(b.likely.2, 0) AS likely_probability,
    coalesce(b.none, 0) AS none_probability,
    multiIf(b.signal_id = '', 'unjudged', likely_probability >= 0.5, 'deployment', 'none') AS explained_by
FROM
(
    SELECT * FROM alerts
    WHERE signal_type IN ('alert_firing', 'incident_opened') AND severity IN ('critical', 'error')
        AND at < {until:DateTime64(6, 'UTC')}
) AS f
ASOF LEFT JOIN
(
    SELECT * FROM alerts WHERE signal_type IN ('alert_resolved', 'incident_resolved')
) AS r
    ON r.region = f.region AND r.service = f.service AND r.fingerprint = f.fingerprint AND r.at >= f.at
LEFT JOIN best AS b ON b.signal_id = f.signal_id
ORDER BY began_at, signal_id
LIMIT 1 BY region, service, f.fingerprint, ended_at
COMMENT 'Critical and error alerts that began in [since, until): their end, their likely cause with its probability, and whether a deployment explains them (0.5 and more); what fires again before its end is one incident';

CREATE OR REPLACE VIEW {database}.dora
AS WITH
    counted AS
    (
        SELECT * FROM {database}.counted_deployments(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
            as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
            excluded_kinds = {excluded_kinds:Array(String)})
    ),
    counts AS
    (
        SELECT
            team,
            countIf(counted_as IN ('succeeded', 'failed', 'pending', 'lost')) AS total,
            countIf(counted_as = 'succeeded') AS succeeded,
            countIf(counted_as = 'failed') AS failed,
            countIf(counted_as = 'pending') AS pending,
            countIf(counted_as = 'lost') AS lost,
            countIf(counted_as = 'excluded') AS excluded,
            countIf(counted_as = 'part') AS parts,
            countIf(counted_as = 'rollback') AS rollbacks,
            countIf(kind = 'hotfix' AND counted_as IN ('succeeded', 'failed', 'pending', 'lost')) AS hotfixes
        FROM counted
        GROUP BY team
    ),
    failures AS
    (
        SELECT team, sum(failure_probability) AS explained
        FROM {database}.change_failures(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
            as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
            excluded_kinds = {excluded_kinds:Array(String)})
        GROUP BY team
    ),
    leads AS
    (
        SELECT c.team AS team, arraySort(groupArray(dateDiff('second', e.committed_at, assumeNotNull(c.succeeded_at)))) AS lead
        FROM (SELECT * FROM counted WHERE counted_as IN ('succeeded', 'failed') AND succeeded_at IS NOT NULL) AS c
        INNER JOIN
        (
            SELECT region, deployment_id, assumeNotNull(min(parseDateTime64BestEffortOrNull(tags['committed_at'], 6, 'UTC'))) AS committed_at
            FROM {database}.deployment_events
            WHERE environment = {environment:String} AND tags['committed_at'] != ''
                AND corrected_at >= {since:DateTime64(6, 'UTC')} - INTERVAL 7 DAY
                AND corrected_at < {until:DateTime64(6, 'UTC')} + INTERVAL 7 DAY
            GROUP BY region, deployment_id
            HAVING min(parseDateTime64BestEffortOrNull(tags['committed_at'], 6, 'UTC')) IS NOT NULL
        ) AS e ON e.region = c.region AND e.deployment_id = c.deployment_id
        GROUP BY c.team
    ),
    incidents AS
    (
        SELECT
            if(o.team != '', o.team, '') AS team,
            count() AS incidents,
            countIf(explained_by = 'deployment') AS incidents_by_deployments,
            countIf(explained_by = 'deployment' AND ended_at IS NULL) AS incidents_open,
            arraySort(groupArrayIf(dateDiff('second', began_at, assumeNotNull(ended_at)),
                explained_by = 'deployment' AND ended_at IS NOT NULL)) AS restore
        FROM {database}.incident_causes(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
            as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String}) AS i
        ASOF LEFT JOIN {database}.service_owners(as_of = {as_of:DateTime64(6, 'UTC')}) AS o
            ON o.service = i.service AND o.effective_from <= i.began_at
        GROUP BY team
    ),
    1.959964 AS z
SELECT
    c.name AS team,
    c.total AS total,
    c.succeeded AS succeeded,
    c.failed AS failed,
    c.pending AS pending,
    c.lost AS lost,
    c.excluded AS excluded,
    c.parts AS parts,
    c.rollbacks AS rollbacks,
    c.hotfixes AS hotfixes,
    dateDiff('second', {since:DateTime64(6, 'UTC')}, {until:DateTime64(6, 'UTC')}) / 86400 AS days,
    c.succeeded / days AS deployments_per_day,
    c.succeeded + c.failed AS finished,
    if(finished = 0, NULL, c.failed / finished) AS change_failure_rate,
    if(finished = 0, NULL, (change_failure_rate + z * z / (2 * finished)
        - z * sqrt(change_failure_rate * (1 - change_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS change_failure_rate_low,
    if(finished = 0, NULL, (change_failure_rate + z * z / (2 * finished)
        + z * sqrt(change_failure_rate * (1 - change_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS change_failure_rate_high,
    f.explained AS explained_failures,
    if(finished = 0, NULL, f.explained / finished) AS explained_failure_rate,
    if(finished = 0, NULL, (explained_failure_rate + z * z / (2 * finished)
        - z * sqrt(explained_failure_rate * (1 - explained_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS explained_failure_rate_low,
    if(finished = 0, NULL, (explained_failure_rate + z * z / (2 * finished)
        + z * sqrt(explained_failure_rate * (1 - explained_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS explained_failure_rate_high,
    length(l.lead) AS lead_times,
    if(lead_times = 0, NULL, (l.lead[intDiv(lead_times + 1, 2)] + l.lead[intDiv(lead_times + 2, 2)]) / 2) AS lead_time_median_seconds,
    if(lead_times < 6, NULL, l.lead[greatest(1, toInt64(floor((lead_times - z * sqrt(lead_times)) / 2)))]) AS lead_time_median_low,
    if(lead_times < 6, NULL, l.lead[least(lead_times, toInt64(ceil(1 + (lead_times + z * sqrt(lead_times)) / 2)))]) AS lead_time_median_high,
    c.incidents AS incidents,
    c.incidents_by_deployments AS incidents_by_deployments,
    c.incidents_open AS incidents_open,
    length(c.restore) AS restores,
    if(restores = 0, NULL, (c.restore[intDiv(restores + 1, 2)] + c.restore[intDiv(restores + 2, 2)]) / 2) AS restore_median_seconds,
    if(restores < 6, NULL, c.restore[greatest(1, toInt64(floor((restores - z * sqrt(restores)) / 2)))]) AS restore_median_low,
    if(restores < 6, NULL, c.restore[least(restores, toInt64(ceil(1 + (restores + z * sqrt(restores)) / 2)))]) AS restore_median_high
FROM
(
    SELECT
        if(a.team != '', a.team, b.team) AS name,
        a.total AS total, a.succeeded AS succeeded, a.failed AS failed, a.pending AS pending, a.lost AS lost,
        a.excluded AS excluded, a.parts AS parts, a.rollbacks AS rollbacks, a.hotfixes AS hotfixes,
        b.incidents AS incidents, b.incidents_by_deployments AS incidents_by_deployments, b.incidents_open AS incidents_open, b.restore AS restore
    FROM counts AS a
    FULL OUTER JOIN incidents AS b ON b.team = a.team
) AS c
LEFT JOIN failures AS f ON f.team = c.name
LEFT JOIN leads AS l ON l.team = c.name
ORDER BY team
COMMENT 'The four keys per owning team of that day, with denominators: rates with the Wilson interval of 95 %, medians with the interval of order statistics (n/2 ± 1.96 √n/2; null below six values)';

CREATE OR REPLACE VIEW {database}.effective_deployments
AS WITH
    cohorts AS
    (
        SELECT part.deployment_id
        FROM {database}.deployment_parts AS part
        INNER JOIN
        (
            SELECT deployment_id, service FROM {database}.deployments
            WHERE deployment_id IN (SELECT root_deployment_id FROM {database}.deployment_parts)
        ) AS root ON root.deployment_id = part.root_deployment_id
        WHERE root.service = part.service
    ),
    undone_later AS
    (
        SELECT region, environment, service, deployment_id, version, artifact_digest, commit_sha, deployer, provenance
        FROM {database}.deployments
        WHERE state = 'rolled_back' AND finished_at > {at:DateTime64(6, 'UTC')}
            AND (started_at IS NULL OR started_at <= {at:DateTime64(6, 'UTC')})
    )
SELECT *
FROM
(
    SELECT
        region, environment, service, deployment_id, version, artifact_digest, commit_sha, deployer, provenance,
        assumeNotNull(finished_at) AS since
    FROM {database}.deployments
    WHERE state = 'succeeded' AND finished_at <= {at:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT
        d.region, d.environment, d.service, d.deployment_id, d.version, d.artifact_digest, d.commit_sha, d.deployer, d.provenance,
        u.succeeded_at
    FROM undone_later AS d
    INNER JOIN
    (
        SELECT region, deployment_id, argMax(assumeNotNull(finished_at), revision) AS succeeded_at
        FROM {database}.deployment_revisions
        WHERE state = 'succeeded' AND finished_at IS NOT NULL AND deployment_id IN (SELECT deployment_id FROM undone_later)
        GROUP BY region, deployment_id
    ) AS u ON u.region = d.region AND u.deployment_id = d.deployment_id
    WHERE u.succeeded_at <= {at:DateTime64(6, 'UTC')}
)
WHERE deployment_id NOT IN cohorts
COMMENT 'Deployments that had taken effect at a time and were not undone by then; a cohort of the same service is no deployment of its own, and of what was superseded nobody knows that it took effect';

CREATE OR REPLACE VIEW {database}.active_deployments
AS SELECT * FROM {database}.deployments
WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded')
    AND (region, deployment_id) IN (SELECT region, deployment_id FROM {database}.current_deployments WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded'))
COMMENT 'What is being deployed now';

CREATE OR REPLACE VIEW {database}.version_at
AS SELECT
    region, environment, service,
    newest.1 AS deployment_id, newest.2 AS version, newest.3 AS artifact_digest, newest.4 AS commit_sha,
    newest.5 AS deployer, newest.6 AS provenance, newest.7 AS since
FROM
(
    SELECT
        region, environment, service,
        argMin(
            (deployment_id, version, artifact_digest, commit_sha, deployer, provenance, since),
            (-toUnixTimestamp64Micro(since), deployment_id)
        ) AS newest
    FROM {database}.effective_deployments(at = {at:DateTime64(6, 'UTC')})
    WHERE version != '' OR artifact_digest != ''
    GROUP BY region, environment, service
)
COMMENT 'The version of each service in each place at a time: of the newest deployment that had taken effect; a rollback that names no version gives way to what ran before';

CREATE OR REPLACE VIEW {database}.config_at
AS SELECT
    region, environment, service, key,
    newest.1 AS value, newest.2 AS deployment_id, newest.3 AS deployer, newest.4 AS since
FROM
(
    SELECT
        d.region AS region, d.environment AS environment, d.service AS service, e.key AS key,
        argMin(
            (e.value, d.deployment_id, d.deployer, d.since),
            (-toUnixTimestamp64Micro(d.since), d.deployment_id)
        ) AS newest
    FROM {database}.effective_deployments(at = {at:DateTime64(6, 'UTC')}) AS d
    INNER JOIN
    (
        SELECT region, deployment_id, pair.1 AS key, argMax(pair.2, (corrected_at, kafka_offset)) AS value
        FROM {database}.deployment_events ARRAY JOIN CAST(config_changes, 'Array(Tuple(String, String))') AS pair
        WHERE notEmpty(config_changes)
        GROUP BY region, deployment_id, key
    ) AS e ON e.region = d.region AND e.deployment_id = d.deployment_id
    GROUP BY region, environment, service, key
)
COMMENT 'The value of each configuration key in each place at a time, and the deployment that set it';

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
        SELECT * FROM {database}.deployment_revisions
        WHERE rollback_of IN (SELECT deployment_id FROM candidates)
            AND merged_into = ''
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
COMMENT 'One incident, or the alert of a signal_id: its signals, the changes that may have caused it with their probability, their rollbacks and the verdicts, by corrected time';

CREATE OR REPLACE VIEW {database}.coverage
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
        SELECT region, environment, service, reported_team, sources, state, started_at, counted_at
        FROM {database}.deployments_known(as_of = {until:DateTime64(6, 'UTC')})
        WHERE provenance = 'reported' AND state NOT IN ('voided', 'unknown')
            AND counted_at >= {since:DateTime64(6, 'UTC')} AND counted_at < {until:DateTime64(6, 'UTC')}
            AND deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
                since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
    ),
    reported AS
    (
        SELECT
            region, environment, service,
            argMax(if(empty(sources), '', sources[1]), coalesce(started_at, toDateTime64(0, 6, 'UTC'))) AS tool,
            groupUniqArrayIf(version, version != '' AND version IN (SELECT version FROM seen)) AS versions,
            groupUniqArrayIf(artifact_digest, artifact_digest != '' AND artifact_digest IN (SELECT artifact_digest FROM seen)) AS digests
        FROM {database}.deployment_revisions
        WHERE provenance = 'reported' AND state NOT IN ('voided', 'unknown') AND merged_into = ''
            AND recorded_at < {until:DateTime64(6, 'UTC')}
        GROUP BY region, environment, service
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
    )
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
        has(t.versions, s.version) OR has(t.digests, s.artifact_digest) AS registered,
        0 AS deployments, 0 AS no_end, 0 AS not_mapped
    FROM seen AS s
    LEFT JOIN reported AS t ON t.region = s.region AND t.environment = s.environment AND t.service = s.service
    UNION ALL
    SELECT
        service, reported_team, if(empty(sources), '', sources[1]),
        0, 0, 1,
        state = 'lost' OR (state = 'superseded' AND started_at IS NOT NULL),
        ('environment', toString(environment)) IN unmapped OR ('region', toString(region)) IN unmapped
    FROM known
) AS x
LEFT JOIN owners AS o ON o.service = x.service
GROUP BY team, tool
ORDER BY team, tool
COMMENT 'Coverage per owning team and tool: what is seen to run of which a deployment was reported, deployments without an end, and in names that no policy knows; what no tool ever deployed has an empty one';

CREATE OR REPLACE VIEW {database}.broken_ticket_links
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
WHERE a.deployment_id NOT IN
(
    SELECT deployment_id FROM {database}.deployment_revisions
    WHERE deployment_id IN
    (
        SELECT deployment_id FROM {database}.approvals
        WHERE change_ticket != '' AND environment = {environment:String}
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
    )
)
COMMENT 'Links between deployments and change tickets that do not hold both ways: no ticket, a ticket that its system never named, a ticket that names other deployments, a ticket that names a deployment nobody reported';
