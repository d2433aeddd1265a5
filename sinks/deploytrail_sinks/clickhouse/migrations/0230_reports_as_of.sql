CREATE OR REPLACE VIEW {database}.role_holders_as_of
AS SELECT
    policy,
    arrayJoin(arrayFlatten(arrayMap((role, people) -> arrayMap(person -> (role, person), people), mapKeys(holders), mapValues(holders)))) AS holder,
    services,
    environments,
    regions
FROM
(
    SELECT
        name AS policy,
        JSONExtract(spec, 'holders', 'Map(String, Array(String))') AS holders,
        JSONExtract(spec, 'scope', 'services', 'Array(String)') AS services,
        JSONExtract(spec, 'scope', 'environments', 'Array(String)') AS environments,
        JSONExtract(spec, 'scope', 'regions', 'Array(String)') AS regions,
        effective_from,
        leadInFrame(effective_from, 1, toDateTime64('2299-12-31 00:00:00', 6, 'UTC')) OVER
            (PARTITION BY name ORDER BY effective_from, version ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS effective_until
    FROM {database}.policies FINAL
    WHERE kind = 'approval' AND kafka_timestamp < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
)
WHERE effective_from < {until:DateTime64(6, 'UTC')} AND effective_until > greatest(effective_from, {since:DateTime64(6, 'UTC')})
COMMENT 'Who held which role of which approval policy at some time of [since, until), and for what the policy counts; as it was known at as_of, by Kafka\'s time';

CREATE OR REPLACE VIEW {database}.role_holders
AS SELECT * FROM {database}.role_holders_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = '2299-12-31 00:00:00')
COMMENT 'Who held which role of which approval policy at some time of [since, until), and for what the policy counts';

CREATE OR REPLACE VIEW {database}.access_review_as_of
AS WITH
    could AS
    (
        SELECT * FROM {database}.grants
        WHERE taken_at = (SELECT max(taken_at) FROM {database}.grants WHERE taken_at <= least({until:DateTime64(6, 'UTC')}, {as_of:DateTime64(6, 'UTC')}))
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
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, if(approval_type IN ('registered', 'requested'), 'register', 'approve') AS verb, uniqExact(approval_id), max(received_at), groupUniqArray(toString(service)), groupUniqArrayIf(toString(approver), approver != '')
            FROM {database}.approvals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} GROUP BY reporter, verb
            UNION ALL
            SELECT reporter, 'signal', uniqExact(signal_id), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.signals
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} GROUP BY reporter
            UNION ALL
            SELECT reporter, 'observe', uniqExact(observation_id), max(received_at), groupUniqArray(toString(service)), []
            FROM {database}.observations
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} GROUP BY reporter
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
        FROM {database}.role_holders_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')})
        GROUP BY holder
    ),
    approved AS
    (
        SELECT
            toString(approver) AS person, toString(approver_role) AS named_role, uniqExact(approval_id) AS n, max(received_at) AS last,
            groupUniqArray(toString(service)) AS services
        FROM {database}.approvals
        WHERE approver != '' AND approval_type IN ('approved', 'rejected', 'revoked')
            AND received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
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
COMMENT 'Who could against who did, unused ones first: each credential that held in [since, until), by the newest reading of the credentials then; who reported without a grant that is known; and each holder of a role of an approval policy in force then, who may approve; as it was known at as_of, by Kafka\'s time';

CREATE OR REPLACE VIEW {database}.coverage_as_of
AS WITH
    seen AS
    (
        SELECT DISTINCT region, environment, service, version, artifact_digest
        FROM {database}.observations
        WHERE observation_type = 'running'
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
            AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    ),
    known AS
    (
        SELECT region, environment, service, reported_team, sources, state, started_at
        FROM
        (
            SELECT
                region, deployment_id, environment, service, team AS reported_team, sources, state, started_at, provenance, merged_into,
                coalesce(started_at, finished_at) AS counted_at
            FROM {database}.deployment_revisions
            WHERE recorded_at <= {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
                AND deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
                    since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
            ORDER BY revision DESC, kafka_offset DESC, kafka_partition DESC LIMIT 1 BY region, deployment_id
        )
        WHERE merged_into = '' AND provenance = 'reported' AND state NOT IN ('voided', 'unknown')
            AND counted_at >= {since:DateTime64(6, 'UTC')} AND counted_at < {until:DateTime64(6, 'UTC')}
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
            AND recorded_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        GROUP BY region, environment, service
    ),
    owners AS
    (
        SELECT service, team FROM {database}.service_owners(as_of = least({until:DateTime64(6, 'UTC')}, {as_of:DateTime64(6, 'UTC')}))
        WHERE effective_from < {until:DateTime64(6, 'UTC')} AND effective_until >= {until:DateTime64(6, 'UTC')}
    ),
    unmapped AS
    (
        SELECT DISTINCT arrayJoin(['environment', 'region']) AS field, evidence[field] AS name
        FROM {database}.findings
        WHERE rule = 'unmapped_name' AND verdict = 'violation' AND evidence[field] != ''
            AND occurred_at >= {since:DateTime64(6, 'UTC')} AND occurred_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            AND (kafka_partition, finding_id) NOT IN
            (
                SELECT kafka_partition, supersedes FROM {database}.findings
                WHERE rule = 'unmapped_name' AND supersedes != '' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            )
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
COMMENT 'Coverage per owning team and tool: what is seen to run of which a deployment was reported, deployments without an end, and in names that no policy knows; what no tool ever deployed has an empty one; as it was known at as_of, by Kafka\'s time';

CREATE OR REPLACE VIEW {database}.coverage
AS SELECT * FROM {database}.coverage_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = '2299-12-31 00:00:00')
ORDER BY team, tool
COMMENT 'Coverage per owning team and tool: what is seen to run of which a deployment was reported, deployments without an end, and in names that no policy knows; what no tool ever deployed has an empty one';

CREATE OR REPLACE VIEW {database}.access_review
AS SELECT * FROM {database}.access_review_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = '2299-12-31 00:00:00')
ORDER BY indexOf(['unused', 'partly_used', 'no_grant_known', 'unauthenticated', 'used'], verdict), through, credential
COMMENT 'Who could against who did, unused ones first: each credential that held in [since, until), by the newest reading of the credentials then; who reported without a grant that is known; and each holder of a role of an approval policy in force then, who may approve'
