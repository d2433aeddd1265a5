CREATE OR REPLACE VIEW {database}.effective_deployments
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
        AND ((state = 'succeeded' AND finished_at <= {at:DateTime64(6, 'UTC')})
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
COMMENT 'Deployments that had taken effect at a time and were not undone by then; a cohort of the same service is no deployment of its own, and of what was superseded nobody knows that it took effect';

CREATE OR REPLACE VIEW {database}.counted_deployments
AS SELECT
    d.*,
    if(o.team != '', o.team, d.reported_team) AS team,
    o.tier AS tier,
    multiIf(
        d.deployment_id IN (SELECT deployment_id FROM {database}.deployment_parts), 'part',
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
        state = 'lost' OR (state = 'superseded' AND started_at IS NOT NULL),
        ('environment', toString(environment)) IN unmapped OR ('region', toString(region)) IN unmapped
    FROM known
) AS x
LEFT JOIN owners AS o ON o.service = x.service
GROUP BY team, tool
ORDER BY team, tool
COMMENT 'Coverage per owning team and tool: what is seen to run of which a deployment was reported, deployments without an end, and in names that no policy knows; what no tool ever deployed has an empty one';
