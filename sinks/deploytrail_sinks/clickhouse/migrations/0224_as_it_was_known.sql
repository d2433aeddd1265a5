CREATE OR REPLACE VIEW {database}.parts_known
AS WITH
    (
        -- a value, since that is computed once, and a subquery wherever it stands
        SELECT groupUniqArray(deployment_id)
        FROM
        (
            SELECT p.deployment_id AS deployment_id
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT
                    reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, deployment_id,
                    min(revision) AS first, uniqExact(revision) AS told, argMax(kafka_offset, (revision, kafka_offset)) AS newest
                FROM {database}.part_history
                GROUP BY region, deployment_id
            ) AS p ON p.id = h.id
            GROUP BY p.id, p.deployment_id, p.first, p.told, p.newest
            HAVING max(h.revision) - p.first + 1 > p.told OR argMax(h.kafka_offset, (h.revision, h.kafka_offset)) != p.newest
        )
    ) AS taken_back,
    links AS
    (
        SELECT region, deployment_id, argMax((part_of, service), (revision, kafka_offset)) AS said, said.1 AS parent, said.2 AS of_service
        FROM
        (
            SELECT region, deployment_id, revision, kafka_offset, part_of, service
            FROM {database}.part_history
            WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
            UNION ALL
            SELECT region, deployment_id, revision, kafka_offset, part_of, service
            FROM {database}.deployment_revisions
            WHERE deployment_id IN (SELECT arrayJoin(taken_back)) AND part_of = '' AND recorded_at <= {as_of:DateTime64(6, 'UTC')}
        )
        GROUP BY region, deployment_id
        HAVING parent != ''
    )
SELECT
    a.region AS region,
    a.deployment_id AS deployment_id,
    a.parent AS parent_deployment_id,
    multiIf(c.parent != '', c.parent, b.parent != '', b.parent, a.parent) AS root_deployment_id,
    a.of_service AS service
FROM links AS a
LEFT JOIN links AS b ON b.region = a.region AND b.deployment_id = a.parent
LEFT JOIN links AS c ON c.region = b.region AND c.deployment_id = b.parent
COMMENT 'Deployments that were known at as_of to be a part of another one of their region, or another name of it, up to three levels below their root; a link that was taken back by then is none';

CREATE OR REPLACE VIEW {database}.deployment_parts
AS SELECT deployment_id, parent_deployment_id, root_deployment_id, service, region
FROM {database}.parts_known(as_of = '2299-12-31 00:00:00')
COMMENT 'Deployments that are a part of another one of their region, or another name of it, up to three levels below their root';

CREATE OR REPLACE VIEW {database}.cohorts
AS SELECT region, deployment_id
FROM
(
    SELECT part.region AS region, part.deployment_id AS deployment_id, part.service AS service, argMax((root.service, root.merged), root.revision) AS newest
    FROM {database}.deployment_heads AS root
    INNER JOIN
    (
        SELECT region, deployment_id, service, reinterpretAsUInt128(sipHash128(region, root_deployment_id)) AS root_id
        FROM {database}.deployment_parts
    ) AS part ON part.root_id = root.id
    GROUP BY root.id, part.region, part.deployment_id, part.service
)
WHERE newest.1 = service AND NOT newest.2
COMMENT 'Parts of a deployment of the same service: a cohort of it, and no deployment of its own';

CREATE OR REPLACE VIEW {database}.deployments_known
AS SELECT
    r.region AS region, r.deployment_id AS deployment_id,
    r.state AS state,
    r.environment AS environment,
    r.service AS service,
    r.team AS reported_team,
    r.kind AS kind,
    r.rollback_of AS rollback_of,
    r.rolled_back_by AS rolled_back_by,
    r.emergency AS emergency,
    r.started_at AS started_at,
    r.started_at_uncertainty_ms AS started_at_uncertainty_ms,
    r.finished_at AS finished_at,
    r.finished_at_uncertainty_ms AS finished_at_uncertainty_ms,
    r.duration_ms AS duration_ms,
    r.last_event_at AS last_event_at,
    r.version AS version,
    r.artifact_digest AS artifact_digest,
    r.commit_sha AS commit_sha,
    r.deployer AS deployer,
    r.change_ticket AS change_ticket,
    r.feature_ticket AS feature_ticket,
    r.sources AS sources,
    r.registered_at AS registered_at,
    r.provenance AS provenance,
    coalesce(r.started_at, r.finished_at) AS counted_at,
    n.effect.1 AS succeeded_at,
    r.part_of AS part_of
FROM {database}.deployment_revisions AS r
INNER JOIN
(
    -- as one number, which is compared at once: the newest revision, of several of one number the one that came last
    SELECT
        region, deployment_id, max(bitOr(bitShiftLeft(toUInt128(revision), 96), bitOr(bitShiftLeft(toUInt128(kafka_offset), 32), toUInt128(kafka_partition)))) AS newest,
        argMaxIf(tuple(finished_at), revision, state = 'succeeded') AS effect
    FROM {database}.deployment_revisions
    WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
    GROUP BY region, deployment_id
) AS n ON n.deployment_id = r.deployment_id AND n.region = r.region
WHERE bitOr(bitShiftLeft(toUInt128(r.revision), 96), bitOr(bitShiftLeft(toUInt128(r.kafka_offset), 32), toUInt128(r.kafka_partition))) = n.newest AND r.merged_into = ''
COMMENT 'One row per deployment as it was known at as_of; succeeded_at is when it took effect, also where it was undone later; part_of is what it was known to be a part of; another name of a deployment has none';

CREATE OR REPLACE VIEW {database}.counted_deployments
AS SELECT
    d.* EXCEPT (part_of),
    if(o.team != '', o.team, d.reported_team) AS team,
    o.tier AS tier,
    multiIf(
        d.part_of != '', 'part',
        has({excluded_kinds:Array(String)}, toString(d.kind)), 'excluded',
        d.state IN ('voided', 'cancelled', 'registered', 'unknown'), 'excluded',
        d.kind = 'rollback' OR d.rollback_of != '', 'rollback',
        d.state IN ('queued', 'waiting_approval', 'running', 'degraded'), 'pending',
        d.state = 'superseded' AND d.started_at IS NULL, 'excluded',
        d.state IN ('lost', 'superseded'), 'lost',
        d.state IN ('failed', 'rolled_back'), 'failed',
        'succeeded'
    ) AS counted_as
FROM
(
    SELECT * FROM {database}.deployments_known(as_of = {as_of:DateTime64(6, 'UTC')})
    WHERE counted_at >= {since:DateTime64(6, 'UTC')} AND counted_at < {until:DateTime64(6, 'UTC')}
        AND environment = {environment:String}
        AND deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
) AS d
ASOF LEFT JOIN {database}.service_owners(as_of = {as_of:DateTime64(6, 'UTC')}) AS o
    ON o.service = d.service AND o.effective_from <= assumeNotNull(d.counted_at)
COMMENT 'Deployments that began in [since, until) as known at as_of, the team that owned the service on that day, and what each counts as: part, excluded, rollback, pending, lost (nobody told of its end), failed, succeeded';

CREATE OR REPLACE VIEW {database}.change_failures
AS SELECT
    c.deployment_id AS deployment_id,
    c.region AS region,
    c.service AS service,
    c.team AS team,
    c.kind AS kind,
    c.counted_as AS counted_as,
    c.state AS state,
    c.counted_at AS counted_at,
    c.rolled_back_by AS rolled_back_by,
    coalesce(i.probability, 0) AS incident_probability,
    i.signals AS signals,
    if(c.counted_as = 'failed', 1., coalesce(i.probability, 0)) AS failure_probability
FROM
(
    SELECT * FROM {database}.counted_deployments(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
        as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
        excluded_kinds = {excluded_kinds:Array(String)})
    WHERE counted_as IN ('failed', 'succeeded')
) AS c
LEFT JOIN
(
    SELECT
        f.region AS region,
        if(p.root_deployment_id != '', p.root_deployment_id, f.deployment_id) AS root,
        max(f.said.2) AS probability,
        groupUniqArrayIf(f.signal_id, f.said.2 > 0) AS signals
    FROM
    (
        SELECT region, signal_id, deployment_id, argMax((rank, probability), kafka_offset) AS said
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            AND deployment_id != '' AND severity IN ('critical', 'error')
            AND occurred_at >= {since:DateTime64(6, 'UTC')}
        GROUP BY region, signal_id, deployment_id
    ) AS f
    LEFT JOIN {database}.parts_known(as_of = {as_of:DateTime64(6, 'UTC')}) AS p
        ON p.region = f.region AND p.deployment_id = f.deployment_id
    WHERE f.said.1 > 0
    GROUP BY region, root
) AS i ON i.region = c.region AND i.root = c.deployment_id
COMMENT 'How likely each finished change failed: 1 where it failed or was undone, else the largest probability with which an alert is explained by it or a part of it';

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
                AND received_at <= {as_of:DateTime64(6, 'UTC')}
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

CREATE OR REPLACE VIEW {database}.deployment_batches
AS SELECT
    e.region AS region,
    if(p.root_deployment_id != '', p.root_deployment_id, e.deployment_id) AS deployment_id,
    uniqExactIf((repository, commit_sha), commit_sha != '') AS commits,
    uniqExactIf(repository, repository != '') AS repositories,
    uniqExactIf(feature_ticket, feature_ticket != '') AS feature_tickets,
    max(toUInt64OrZero(tags['lines_changed'])) AS lines_changed,
    greatest(commits, 1) AS batch_size
FROM {database}.deployment_events AS e
LEFT JOIN {database}.parts_known(as_of = {as_of:DateTime64(6, 'UTC')}) AS p
    ON p.region = e.region AND p.deployment_id = e.deployment_id
WHERE corrected_at >= {since:DateTime64(6, 'UTC')} - INTERVAL 7 DAY
    AND corrected_at < {until:DateTime64(6, 'UTC')} + INTERVAL 7 DAY
    AND received_at <= {as_of:DateTime64(6, 'UTC')}
GROUP BY region, deployment_id
COMMENT 'How much each deployment changes, its parts included, as known at as_of: different commits of different repositories, at least one; events of a week around [since, until) count';

CREATE OR REPLACE VIEW {database}.deployment_risk
AS WITH
    before AS
    (
        SELECT service, countIf(counted_as = 'failed') AS failed, count() AS finished
        FROM {database}.counted_deployments(
            since = {since:DateTime64(6, 'UTC')} - INTERVAL 90 DAY, until = {since:DateTime64(6, 'UTC')},
            as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
            excluded_kinds = {excluded_kinds:Array(String)})
        WHERE counted_as IN ('succeeded', 'failed')
        GROUP BY service
    ),
    (SELECT (sum(failed) + 1) / (sum(finished) + 2) FROM before) AS usual
SELECT
    c.deployment_id AS deployment_id,
    c.region AS region,
    c.service AS service,
    c.team AS team,
    c.kind AS kind,
    c.tier AS tier,
    c.counted_at AS counted_at,
    c.counted_as AS counted_as,
    b.batch_size AS batch_size,
    h.finished AS finished_before,
    h.failed AS failed_before,
    (h.failed + 10 * usual) / (h.finished + 10) AS failure_rate_before,
    1 - pow(1 - failure_rate_before, greatest(b.batch_size, 1)) AS risk,
    d.dependents AS dependents
FROM
(
    SELECT * FROM {database}.counted_deployments(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
        as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
        excluded_kinds = {excluded_kinds:Array(String)})
    WHERE counted_as NOT IN ('part', 'excluded', 'rollback')
) AS c
LEFT JOIN {database}.deployment_batches(
    since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')}) AS b
    ON b.region = c.region AND b.deployment_id = c.deployment_id
LEFT JOIN before AS h ON h.service = c.service
LEFT JOIN
(
    SELECT arrayJoin(depends_on) AS needed, uniqExact(service) AS dependents
    FROM {database}.service_owners(as_of = {as_of:DateTime64(6, 'UTC')})
    WHERE effective_from <= {until:DateTime64(6, 'UTC')} AND effective_until > {until:DateTime64(6, 'UTC')}
    GROUP BY needed
) AS d ON d.needed = c.service
COMMENT 'Risk of each change before its outcome is known: the failure rate of its service in the 90 days before since, drawn towards the usual rate by ten changes, once per commit of the batch; dependents is how many services need it';

CREATE OR REPLACE VIEW {database}.deployment_frequency
AS SELECT
    toDate(toTimeZone(assumeNotNull(c.counted_at), {zone:String})) AS day,
    c.team AS team,
    c.service AS service,
    countIf(c.counted_as IN ('succeeded', 'failed', 'pending', 'lost')) AS deployments,
    countIf(c.counted_as = 'succeeded') AS succeeded,
    countIf(c.counted_as = 'failed') AS failed,
    countIf(c.counted_as = 'rollback') AS rollbacks,
    countIf(c.counted_as IN ('succeeded', 'failed', 'pending', 'lost') AND c.kind = 'hotfix') AS hotfixes,
    avgOrNullIf(greatest(b.batch_size, 1), c.counted_as IN ('succeeded', 'failed', 'pending', 'lost')) AS mean_batch_size
FROM
(
    SELECT * FROM {database}.counted_deployments(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
        as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
        excluded_kinds = {excluded_kinds:Array(String)})
    WHERE counted_as NOT IN ('part', 'excluded')
) AS c
LEFT JOIN {database}.deployment_batches(
    since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')}) AS b
    ON b.region = c.region AND b.deployment_id = c.deployment_id
GROUP BY day, team, service
COMMENT 'Deployments per day, team and service; days are those of the zone';

CREATE OR REPLACE VIEW {database}.effective_places
AS WITH
    told AS
    (
        SELECT
            c.part AS part, c.service AS service, c.environment AS environment, c.region AS region, c.id AS id,
            c.deployment_id AS deployment_id, c.revision AS revision, c.named AS named, c.state AS state, c.finished_at AS finished_at
        FROM {database}.deployment_heads AS h FINAL
        INNER JOIN
        (
            SELECT part, service, environment, region, id, deployment_id, revision, named, state, finished_at
            FROM {database}.placed_deployments FINAL
            WHERE NOT merged
                AND ((state = 'succeeded' AND finished_at <= {at:DateTime64(6, 'UTC')})
                    OR (state = 'rolled_back' AND finished_at > {at:DateTime64(6, 'UTC')}
                        AND (started_at IS NULL OR started_at <= {at:DateTime64(6, 'UTC')})))
        ) AS c ON c.id = h.id AND c.revision = h.revision AND c.state = h.state
    )
SELECT service, environment, region, deployment_id, id, revision, named, since
FROM
(
    SELECT part, service, environment, region, deployment_id, id, revision, named, finished_at AS since
    FROM told
    WHERE state = 'succeeded'
    UNION ALL
    SELECT
        d.part, d.service, d.environment, d.region, d.deployment_id, d.id, d.revision, d.named,
        argMax(u.finished_at, u.revision) AS succeeded_at
    FROM {database}.placed_deployments AS u
    INNER JOIN (SELECT * FROM told WHERE state = 'rolled_back') AS d ON d.id = u.id
    WHERE u.state = 'succeeded'
    GROUP BY d.part, d.service, d.environment, d.region, d.deployment_id, d.id, d.revision, d.named
    HAVING succeeded_at <= {at:DateTime64(6, 'UTC')}
)
WHERE NOT part OR (region, deployment_id) NOT IN (SELECT region, deployment_id FROM {database}.cohorts)
COMMENT 'Deployments that had taken effect at a time and were not undone by then, and the revision that says what they brought; a cohort of the same service is no deployment of its own, and of what was superseded nobody knows that it took effect';

CREATE OR REPLACE VIEW {database}.newest_deployments
AS WITH
    -- not FINAL: of an aggregated tuple of which some elements are asked for, it gives those of any row
    newest_told AS
    (
        SELECT service, environment, region, min(newest) AS newest
        FROM {database}.newest_placed
        GROUP BY service, environment, region
    ),
    (
        SELECT groupUniqArray((toString(w.service), toString(w.environment), toString(w.region)))
        FROM {database}.deployment_heads AS h
        RIGHT JOIN
        (
            SELECT service, environment, region, newest.deployment_id AS deployment_id, newest.id AS id, -newest.revision AS revision
            FROM newest_told
        ) AS w ON w.id = h.id
        -- a head that was purged says that it no longer holds; two of one revision differ where its state was lost
        WHERE h.revision > w.revision OR h.revision = 0 OR (h.revision = w.revision AND h.state != 'succeeded')
    ) AS outdated,  -- a value, since that is computed once; a row of a part is none of the newest told of
    others AS
    (
        SELECT service, environment, region, argMin((id, revision), (-toUnixTimestamp64Micro(finished_at), deployment_id)) AS newest
        FROM
        (
            SELECT
                c.id AS id, c.revision AS revision, any(c.service) AS service, any(c.environment) AS environment, any(c.region) AS region,
                any(c.deployment_id) AS deployment_id, any(c.part) AS part, any(c.finished_at) AS finished_at
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT part, service, environment, region, id, deployment_id, revision, finished_at FROM {database}.placed_deployments
                WHERE (part OR (service, environment, region) IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place)))
                    AND state = 'succeeded' AND NOT merged AND named
            ) AS c ON c.id = h.id
            GROUP BY c.id, c.revision
            HAVING max(h.revision) = c.revision AND argMax(h.state, (h.revision, h.kafka_offset)) = 'succeeded'
        )
        WHERE NOT part OR (region, deployment_id) NOT IN (SELECT region, deployment_id FROM {database}.cohorts)
        GROUP BY service, environment, region
    )
SELECT service, environment, region, newest.2 AS deployment_id, newest.3 AS version, newest.4 AS artifact_digest,
    fromUnixTimestamp64Micro(-newest.1, 'UTC') AS since
FROM
(
    SELECT service, environment, region, min(said) AS newest
    FROM
    (
        SELECT service, environment, region, (newest.ended, newest.deployment_id, newest.version, newest.artifact_digest) AS said
        FROM newest_told
        WHERE (service, environment, region) NOT IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
        UNION ALL
        SELECT service, environment, region, (-toUnixTimestamp64Micro(finished_at), deployment_id, version, artifact_digest) AS said
        FROM {database}.placed_deployments
        WHERE (id, revision) IN (SELECT newest.1, newest.2 FROM others)
    )
    GROUP BY service, environment, region
)
COMMENT 'The version of each service in each place now: the newest success that was told of there where it still holds, else the newest one that does';

DROP VIEW IF EXISTS {database}.part_links_feed;

DROP TABLE IF EXISTS {database}.part_links;
