CREATE OR REPLACE VIEW {database}.role_holders
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
    WHERE kind = 'approval' AND kafka_timestamp < {until:DateTime64(6, 'UTC')}
)
WHERE effective_from < {until:DateTime64(6, 'UTC')} AND effective_until > greatest(effective_from, {since:DateTime64(6, 'UTC')})
COMMENT 'Who held which role of which approval policy at some time of [since, until), and for what the policy counts';

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
            toString(approver) AS person, toString(approver_role) AS named_role, count() AS n, max(received_at) AS last,
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
