CREATE VIEW IF NOT EXISTS {database}.dora
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
    teams AS (SELECT team FROM counts UNION DISTINCT SELECT team FROM incidents),
    1.959964 AS z
SELECT
    t.team AS team,
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
    i.incidents AS incidents,
    i.incidents_by_deployments AS incidents_by_deployments,
    i.incidents_open AS incidents_open,
    length(i.restore) AS restores,
    if(restores = 0, NULL, (i.restore[intDiv(restores + 1, 2)] + i.restore[intDiv(restores + 2, 2)]) / 2) AS restore_median_seconds,
    if(restores < 6, NULL, i.restore[greatest(1, toInt64(floor((restores - z * sqrt(restores)) / 2)))]) AS restore_median_low,
    if(restores < 6, NULL, i.restore[least(restores, toInt64(ceil(1 + (restores + z * sqrt(restores)) / 2)))]) AS restore_median_high
FROM teams AS t
LEFT JOIN counts AS c ON c.team = t.team
LEFT JOIN failures AS f ON f.team = t.team
LEFT JOIN leads AS l ON l.team = t.team
LEFT JOIN incidents AS i ON i.team = t.team
ORDER BY team
COMMENT 'The four keys per owning team of that day, with denominators: rates with the Wilson interval of 95 %, medians with the interval of order statistics (n/2 ± 1.96 √n/2; null below six values)';

CREATE VIEW IF NOT EXISTS {database}.deployment_batches
AS SELECT
    region,
    if(p.root_deployment_id != '', p.root_deployment_id, e.deployment_id) AS deployment_id,
    uniqExactIf((repository, commit_sha), commit_sha != '') AS commits,
    uniqExactIf(repository, repository != '') AS repositories,
    uniqExactIf(feature_ticket, feature_ticket != '') AS feature_tickets,
    max(toUInt64OrZero(tags['lines_changed'])) AS lines_changed,
    greatest(commits, 1) AS batch_size
FROM {database}.deployment_events AS e
LEFT JOIN {database}.deployment_parts AS p ON p.deployment_id = e.deployment_id
WHERE corrected_at >= {since:DateTime64(6, 'UTC')} - INTERVAL 7 DAY
    AND corrected_at < {until:DateTime64(6, 'UTC')} + INTERVAL 7 DAY
GROUP BY region, deployment_id
COMMENT 'How much each deployment changes, its parts included: different commits of different repositories, at least one; events of a week around [since, until) count';

CREATE VIEW IF NOT EXISTS {database}.deployment_risk
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
    since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}) AS b
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

CREATE VIEW IF NOT EXISTS {database}.deployment_frequency
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
    since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}) AS b
    ON b.region = c.region AND b.deployment_id = c.deployment_id
GROUP BY day, team, service
COMMENT 'Deployments per day, team and service; days are those of the zone'
