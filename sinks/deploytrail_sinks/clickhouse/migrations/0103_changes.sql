CREATE VIEW IF NOT EXISTS {database}.service_needs
AS WITH RECURSIVE
    edges AS
    (
        SELECT service, arrayJoin(depends_on) AS needs
        FROM {database}.service_owners(as_of = {at:DateTime64(6, 'UTC')})
        WHERE effective_from <= {at:DateTime64(6, 'UTC')} AND effective_until > {at:DateTime64(6, 'UTC')}
    ),
    reached AS
    (
        SELECT {service:String} AS service, 0 AS distance
        UNION ALL
        SELECT e.needs AS service, r.distance + 1 AS distance
        FROM reached AS r INNER JOIN edges AS e ON e.service = r.service
        WHERE r.distance < 5
    )
SELECT service, min(distance) AS distance FROM reached GROUP BY service
COMMENT 'A service and those that it needs, directly (1) or through others (to 5), by the dependencies in force at that time';

CREATE VIEW IF NOT EXISTS {database}.changed_before
AS SELECT
    d.service AS service,
    n.distance AS distance,
    d.deployment_id AS deployment_id,
    d.kind AS kind,
    d.state AS state,
    d.version AS version,
    d.deployer AS deployer,
    d.started_at AS started_at,
    d.started_at_uncertainty_ms AS started_at_uncertainty_ms,
    d.ended_at AS ended_at,
    if(certain, 'certain', 'possible') AS timing
FROM
(
    SELECT
        *,
        multiIf(
            finished_at IS NOT NULL, finished_at,
            state IN ('queued', 'running', 'degraded', 'waiting_approval'), {at:DateTime64(6, 'UTC')},
            coalesce(last_event_at, started_at)) AS ended_at,
        {at:DateTime64(6, 'UTC')} - toIntervalMinute({minutes:UInt32}) AS opens_at,
        toIntervalMillisecond(coalesce(started_at_uncertainty_ms, 0)) AS start_width,
        toIntervalMillisecond(coalesce(finished_at_uncertainty_ms, 0)) AS end_width,
        started_at + start_width <= {at:DateTime64(6, 'UTC')} AND ended_at - end_width >= opens_at AS certain
    FROM {database}.deployments
    WHERE region = {region:String} AND environment = {environment:String}
        AND service IN (SELECT service FROM {database}.service_needs(service = {service:String}, at = {at:DateTime64(6, 'UTC')}))
        AND started_at IS NOT NULL AND state NOT IN ('voided', 'registered', 'unknown')
        AND deployment_id IN
        (
            SELECT deployment_id FROM {database}.deployment_revisions
            WHERE region = {region:String} AND environment = {environment:String}
                AND service IN (SELECT service FROM {database}.service_needs(service = {service:String}, at = {at:DateTime64(6, 'UTC')}))
                AND started_at >= {at:DateTime64(6, 'UTC')} - INTERVAL 30 DAY
                AND started_at <= {at:DateTime64(6, 'UTC')} + INTERVAL 1 DAY
        )
) AS d
INNER JOIN {database}.service_needs(service = {service:String}, at = {at:DateTime64(6, 'UTC')}) AS n ON n.service = d.service
WHERE d.started_at - d.start_width <= {at:DateTime64(6, 'UTC')} AND d.ended_at + d.end_width >= d.opens_at
ORDER BY distance, started_at DESC, deployment_id
COMMENT 'What changed in the minutes before a time, for a service and those that it needs: certain, or possible where the clocks leave room; what began more than 30 days before is not looked at';

CREATE VIEW IF NOT EXISTS {database}.effective_deployments
AS SELECT
    d.region AS region,
    d.environment AS environment,
    d.service AS service,
    d.deployment_id AS deployment_id,
    d.version AS version,
    d.artifact_digest AS artifact_digest,
    d.commit_sha AS commit_sha,
    d.deployer AS deployer,
    d.provenance AS provenance,
    if(d.state = 'rolled_back', u.succeeded_at, assumeNotNull(d.finished_at)) AS since
FROM
(
    SELECT
        region, environment, service, deployment_id, version, artifact_digest, commit_sha, deployer, provenance, state, finished_at
    FROM {database}.deployments
    WHERE finished_at IS NOT NULL
        AND ((state IN ('succeeded', 'superseded') AND finished_at <= {at:DateTime64(6, 'UTC')})
            OR (state = 'rolled_back' AND finished_at > {at:DateTime64(6, 'UTC')}))
        AND deployment_id NOT IN
        (
            SELECT part.deployment_id
            FROM {database}.deployment_parts AS part
            INNER JOIN {database}.deployment_revisions AS child ON child.deployment_id = part.deployment_id
            INNER JOIN {database}.deployment_revisions AS root ON root.deployment_id = part.root_deployment_id
            WHERE root.service = child.service
        )
) AS d
LEFT JOIN
(
    SELECT region, deployment_id, argMax(assumeNotNull(finished_at), revision) AS succeeded_at
    FROM {database}.deployment_revisions
    WHERE state = 'succeeded' AND finished_at IS NOT NULL
        AND deployment_id IN (SELECT deployment_id FROM {database}.deployment_revisions WHERE state = 'rolled_back')
    GROUP BY region, deployment_id
) AS u ON u.region = d.region AND u.deployment_id = d.deployment_id
WHERE d.state != 'rolled_back' OR (u.deployment_id != '' AND u.succeeded_at <= {at:DateTime64(6, 'UTC')})
COMMENT 'Deployments that had taken effect at a time and were not undone by then; a cohort of the same service is no deployment of its own';

CREATE VIEW IF NOT EXISTS {database}.version_at
AS SELECT *
FROM {database}.effective_deployments(at = {at:DateTime64(6, 'UTC')})
WHERE version != '' OR artifact_digest != ''
ORDER BY since DESC, deployment_id
LIMIT 1 BY region, environment, service
COMMENT 'The version of each service in each place at a time: of the newest deployment that had taken effect; a rollback that names no version gives way to what ran before';

CREATE VIEW IF NOT EXISTS {database}.config_at
AS SELECT
    d.region AS region,
    d.environment AS environment,
    d.service AS service,
    e.key AS key,
    e.value AS value,
    d.deployment_id AS deployment_id,
    d.deployer AS deployer,
    d.since AS since
FROM {database}.effective_deployments(at = {at:DateTime64(6, 'UTC')}) AS d
INNER JOIN
(
    SELECT region, deployment_id, pair.1 AS key, argMax(pair.2, (corrected_at, kafka_offset)) AS value
    FROM {database}.deployment_events ARRAY JOIN CAST(config_changes, 'Array(Tuple(String, String))') AS pair
    GROUP BY region, deployment_id, key
) AS e ON e.region = d.region AND e.deployment_id = d.deployment_id
ORDER BY since DESC, deployment_id
LIMIT 1 BY region, environment, service, key
COMMENT 'The value of each configuration key in each place at a time, and the deployment that set it';

CREATE VIEW IF NOT EXISTS {database}.what_runs
AS SELECT
    if(v.service != '', v.region, o.region) AS region,
    if(v.service != '', v.environment, o.environment) AS environment,
    if(v.service != '', v.service, o.service) AS service,
    v.deployment_id AS deployment_id,
    v.version AS version,
    v.artifact_digest AS artifact_digest,
    v.since AS since,
    o.versions AS seen_versions,
    o.instances AS seen_instances,
    if(o.service != '', o.seen_at, NULL) AS seen_at,
    multiIf(
        o.service = '', 'not_seen',
        v.service = '', 'not_deployed',
        (v.version != '' AND o.versions = [v.version]) OR (v.artifact_digest != '' AND o.digests = [v.artifact_digest]), 'as_deployed',
        'differs') AS agreement
FROM {database}.version_at(at = '2299-12-30 00:00:00') AS v
FULL OUTER JOIN
(
    SELECT
        region, environment, service,
        arraySort(groupUniqArrayIf(version, version != '')) AS versions,
        arraySort(groupUniqArrayIf(digest, digest != '')) AS digests,
        count() AS instances,
        max(at) AS seen_at
    FROM
    (
        SELECT region, environment, service, newest.1 AS type, newest.2 AS version, newest.3 AS digest, at
        FROM
        (
            SELECT
                region, environment, service, cluster, instance, max(corrected_at) AS at,
                argMax((observation_type, version, artifact_digest), (corrected_at, kafka_offset)) AS newest
            FROM {database}.observations
            WHERE observation_type IN ('running', 'removed')
            GROUP BY region, environment, service, cluster, instance
        )
    )
    WHERE type = 'running'
    GROUP BY region, environment, service
) AS o ON o.region = v.region AND o.environment = v.environment AND o.service = v.service
COMMENT 'What runs where now: what was deployed last with success, beside what was last seen to run on each instance';

CREATE VIEW IF NOT EXISTS {database}.who_changed
AS SELECT
    region,
    environment,
    service,
    row_number() OVER places AS ordinal,
    value,
    lagInFrame(value, 1, '') OVER places AS previous_value,
    deployment_id,
    who AS deployer,
    changed_at,
    earliest.2 AS uncertainty_ms,
    leadInFrame(toNullable(changed_at), 1, NULL) OVER places AS until,
    state,
    commit_sha,
    ticket AS change_ticket,
    earliest.3 AS kafka_partition,
    earliest.4 AS kafka_offset
FROM
(
    SELECT
        e.*,
        d.state AS state,
        lagInFrame(e.value, 1, '') OVER (PARTITION BY e.region, e.environment, e.service
            ORDER BY e.changed_at, e.deployment_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before,
        row_number() OVER (PARTITION BY e.region, e.environment, e.service ORDER BY e.changed_at, e.deployment_id) AS place
    FROM
    (
        SELECT
            region, environment, service, deployment_id,
            config_changes[{key:String}] AS value,
            argMin((corrected_at, uncertainty_ms, kafka_partition, kafka_offset), (corrected_at, kafka_offset)) AS earliest,
            earliest.1 AS changed_at,
            max(deployer) AS who,
            max(commit_sha) AS commit_sha,
            max(change_ticket) AS ticket
        FROM {database}.deployment_events
        WHERE mapContains(config_changes, {key:String})
        GROUP BY region, environment, service, deployment_id, value
    ) AS e
    INNER JOIN (SELECT region, deployment_id, state FROM {database}.deployments) AS d
        ON d.region = e.region AND d.deployment_id = e.deployment_id
    WHERE d.state NOT IN ('voided', 'cancelled', 'registered')
)
WHERE place = 1 OR value != before
WINDOW places AS (PARTITION BY region, environment, service ORDER BY changed_at, deployment_id
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
ORDER BY region, environment, service, ordinal
COMMENT 'Who changed a configuration key, in each place: ordinal 1 set it first, the row without until set what holds since; partition and offset on the trail are the proof';

CREATE VIEW IF NOT EXISTS {database}.drift
AS SELECT
    w.region AS region,
    w.environment AS environment,
    w.service AS service,
    w.version AS deployed_version,
    w.deployment_id AS deployed_by,
    seen_version,
    w.seen_at AS seen_at,
    i.deployment_id AS introduced_by,
    i.deployer AS introduced_by_deployer,
    if(i.deployment_id != '', i.first_at, NULL) AS introduced_at
FROM (SELECT *, arrayJoin(seen_versions) AS seen_version FROM {database}.what_runs WHERE agreement = 'differs') AS w
LEFT JOIN
(
    SELECT region, environment, service, version,
        argMin(deployment_id, started_at) AS deployment_id, argMin(deployer, started_at) AS deployer, min(started_at) AS first_at
    FROM {database}.deployments
    WHERE started_at IS NOT NULL AND state NOT IN ('voided', 'cancelled', 'registered')
    GROUP BY region, environment, service, version
) AS i ON i.region = w.region AND i.environment = w.environment AND i.service = w.service AND i.version = seen_version
WHERE seen_version != deployed_version
COMMENT 'What is seen to run and is not what was deployed last: with the first deployment that brought it, if any did';
