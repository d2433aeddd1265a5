CREATE OR REPLACE VIEW {database}.explained_alerts
AS SELECT
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
COMMENT 'The largest probability with which a critical or error alert since a time is explained by each deployment or a part of it, as known at as_of, and those alerts';

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
LEFT JOIN {database}.explained_alerts(since = {since:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')}) AS i ON i.region = c.region AND i.root = c.deployment_id
COMMENT 'How likely each finished change failed: 1 where it failed or was undone, else the largest probability with which an alert is explained by it or a part of it';

CREATE OR REPLACE VIEW {database}.dora
AS WITH
    counted AS
    (
        SELECT
            c.team AS team, c.counted_as AS counted_as, c.kind AS kind, c.succeeded_at AS succeeded_at,
            multiIf(c.counted_as = 'failed', 1., c.counted_as = 'succeeded', coalesce(i.probability, 0), 0.) AS failure_probability,
            e.committed_at AS committed_at, e.deployment_id != '' AS committed
        FROM {database}.counted_deployments(
            since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')},
            as_of = {as_of:DateTime64(6, 'UTC')}, environment = {environment:String},
            excluded_kinds = {excluded_kinds:Array(String)}) AS c
        LEFT JOIN {database}.explained_alerts(since = {since:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')}) AS i
            ON i.region = c.region AND i.root = c.deployment_id
        LEFT JOIN
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
            countIf(kind = 'hotfix' AND counted_as IN ('succeeded', 'failed', 'pending', 'lost')) AS hotfixes,
            sum(failure_probability) AS explained,
            arraySort(groupArrayIf(dateDiff('second', committed_at, assumeNotNull(succeeded_at)),
                counted_as IN ('succeeded', 'failed') AND succeeded_at IS NOT NULL AND committed)) AS lead
        FROM counted
        GROUP BY team
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
    c.explained AS explained_failures,
    if(finished = 0, NULL, c.explained / finished) AS explained_failure_rate,
    if(finished = 0, NULL, (explained_failure_rate + z * z / (2 * finished)
        - z * sqrt(explained_failure_rate * (1 - explained_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS explained_failure_rate_low,
    if(finished = 0, NULL, (explained_failure_rate + z * z / (2 * finished)
        + z * sqrt(explained_failure_rate * (1 - explained_failure_rate) / finished + z * z / (4 * finished * finished)))
        / (1 + z * z / finished)) AS explained_failure_rate_high,
    length(c.lead) AS lead_times,
    if(lead_times = 0, NULL, (c.lead[intDiv(lead_times + 1, 2)] + c.lead[intDiv(lead_times + 2, 2)]) / 2) AS lead_time_median_seconds,
    if(lead_times < 6, NULL, c.lead[greatest(1, toInt64(floor((lead_times - z * sqrt(lead_times)) / 2)))]) AS lead_time_median_low,
    if(lead_times < 6, NULL, c.lead[least(lead_times, toInt64(ceil(1 + (lead_times + z * sqrt(lead_times)) / 2)))]) AS lead_time_median_high,
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
        a.explained AS explained, a.lead AS lead,
        b.incidents AS incidents, b.incidents_by_deployments AS incidents_by_deployments, b.incidents_open AS incidents_open, b.restore AS restore
    FROM counts AS a
    FULL OUTER JOIN incidents AS b ON b.team = a.team
) AS c
ORDER BY team
COMMENT 'The four keys per owning team of that day, with denominators: rates with the Wilson interval of 95 %, medians with the interval of order statistics (n/2 ± 1.96 √n/2; null below six values)'
