CREATE OR REPLACE VIEW {database}.newest_told
AS SELECT
    service, environment, region,
    argMin(deployment_id, newest_first) AS deployment_id, argMin(ended, newest_first) AS ended, argMin(revision, newest_first) AS revision,
    argMin(id, newest_first) AS id, argMin(version, newest_first) AS version, argMin(artifact_digest, newest_first) AS artifact_digest
FROM
(
    -- as one text, whose comparison costs a tenth of a tuple's: newest first, of one time the smallest id, of one deployment its last word
    SELECT
        service, environment, region, newest.deployment_id AS deployment_id, newest.ended AS ended, -newest.revision AS revision,
        newest.id AS id, newest.version AS version, newest.artifact_digest AS artifact_digest,
        concat(reinterpretAsFixedString(byteSwap(toUInt64(9223372036854775807 + ended))), deployment_id, '\0',
            reinterpretAsFixedString(byteSwap(toUInt64(9223372036854775807 - revision)))) AS newest_first
    FROM {database}.newest_placed
)
GROUP BY service, environment, region
COMMENT 'The newest success that was ever told of in each place, whether it still holds or not';

CREATE OR REPLACE VIEW {database}.newest_deployments
AS WITH
    (
        SELECT groupUniqArray((toString(w.service), toString(w.environment), toString(w.region)))
        FROM {database}.deployment_heads AS h
        RIGHT JOIN (SELECT service, environment, region, id, revision FROM {database}.newest_told) AS w ON w.id = h.id
        -- a head that was purged says that it no longer holds; two of one revision differ where its state was lost
        WHERE h.revision > w.revision OR h.revision = 0 OR (h.revision = w.revision AND h.state != 'succeeded')
    ) AS outdated,  -- a value, since that is computed once, and a subquery wherever it stands
    (
        -- what may stand in the place of what is outdated, and parts, which are none of the newest told, where they are newer
        SELECT groupArray((part, service, environment, region, deployment_id, -toUnixTimestamp64Micro(finished_at), version, artifact_digest))
        FROM
        (
            SELECT
                any(c.part) AS part, any(toString(c.service)) AS service, any(toString(c.environment)) AS environment, any(toString(c.region)) AS region,
                any(c.deployment_id) AS deployment_id, any(c.finished_at) AS finished_at, any(c.version) AS version, any(c.artifact_digest) AS artifact_digest
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT part, service, environment, region, id, revision, deployment_id, finished_at, version, artifact_digest
                FROM {database}.placed_deployments
                WHERE NOT part AND (service, environment, region) IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
                    AND state = 'succeeded' AND NOT merged AND named
                UNION ALL
                SELECT p.part, p.service, p.environment, p.region, p.id, p.revision, p.deployment_id, p.finished_at, p.version, p.artifact_digest
                FROM {database}.placed_deployments AS p
                LEFT JOIN
                (
                    SELECT service, environment, region, ended, 1 AS told
                    FROM {database}.newest_told
                    WHERE (service, environment, region) NOT IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
                ) AS w ON w.service = p.service AND w.environment = p.environment AND w.region = p.region
                WHERE p.part AND p.state = 'succeeded' AND NOT p.merged AND p.named
                    AND (w.told = 0 OR -toUnixTimestamp64Micro(p.finished_at) <= w.ended)
            ) AS c ON c.id = h.id
            GROUP BY c.id, c.revision
            HAVING max(h.revision) = c.revision AND argMax(h.state, (h.revision, h.kafka_offset)) = 'succeeded'
        )
    ) AS standing,
    arrayMap(s -> (s.4, s.5), arrayFilter(s -> s.1, standing)) AS parts,
    (
        SELECT groupUniqArray((toString(region), part_of)) FROM {database}.part_history
        WHERE (region, deployment_id) IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(parts) AS part))
    ) AS parents,
    (
        SELECT groupUniqArray((toString(region), part_of)) FROM {database}.part_history
        WHERE (region, deployment_id) IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(parents) AS part))
    ) AS wholes,
    arrayConcat(parts, parents, wholes) AS family,
    (
        -- the last word of each that is a part, unless its newest revision takes it back
        SELECT groupArray((region, deployment_id, parent, of_service))
        FROM
        (
            SELECT any(p.region) AS region, any(p.deployment_id) AS deployment_id, any(p.parent) AS parent, any(p.of_service) AS of_service
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT
                    id, any(toString(its_region)) AS region, any(its_id) AS deployment_id,
                    argMax(part_of, said) AS parent, argMax(toString(service), said) AS of_service, max(said) AS newest
                FROM
                (
                    SELECT
                        reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, region AS its_region, deployment_id AS its_id, part_of, service,
                        bitOr(bitShiftLeft(toUInt128(revision), 64), toUInt128(kafka_offset)) AS said
                    FROM {database}.part_history
                    WHERE (region, deployment_id) IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(family) AS part))
                )
                GROUP BY id
            ) AS p ON p.id = h.id
            GROUP BY h.id
            HAVING max(bitOr(bitShiftLeft(toUInt128(h.revision), 64), toUInt128(h.kafka_offset))) <= any(p.newest)
        )
    ) AS links,
    (
        -- a cohort of its whole is no deployment of its own
        SELECT groupArray((region, deployment_id))
        FROM
        (
            SELECT
                part.region AS region, part.deployment_id AS deployment_id, any(part.service) AS of_service,
                argMax((root.service, root.merged), root.revision) AS newest
            FROM {database}.deployment_heads AS root
            INNER JOIN
            (
                SELECT
                    a.link.1 AS region, a.link.2 AS deployment_id, a.link.4 AS service,
                    reinterpretAsUInt128(sipHash128(toLowCardinality(a.link.1), multiIf(c.link.3 != '', c.link.3, b.link.3 != '', b.link.3, a.link.3))) AS root_id
                FROM (SELECT arrayJoin(links) AS link) AS a
                LEFT JOIN (SELECT arrayJoin(links) AS link) AS b ON b.link.1 = a.link.1 AND b.link.2 = a.link.3
                LEFT JOIN (SELECT arrayJoin(links) AS link) AS c ON c.link.1 = b.link.1 AND c.link.2 = b.link.3
            ) AS part ON part.root_id = root.id
            GROUP BY root.id, part.region, part.deployment_id
        )
        WHERE newest.1 = of_service AND NOT newest.2
    ) AS no_wholes
SELECT service, environment, region, newest.2 AS deployment_id, newest.3 AS version, newest.4 AS artifact_digest,
    fromUnixTimestamp64Micro(-newest.1, 'UTC') AS since
FROM
(
    SELECT service, environment, region, min(said) AS newest
    FROM
    (
        SELECT service, environment, region, (ended, deployment_id, version, artifact_digest) AS said
        FROM {database}.newest_told
        WHERE (service, environment, region) NOT IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
        UNION ALL
        SELECT s.2 AS service, s.3 AS environment, s.4 AS region, (s.6, s.5, s.7, s.8) AS said
        FROM (SELECT arrayJoin(standing) AS s)
        WHERE NOT s.1 OR (region, s.5) NOT IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(no_wholes) AS part))
    )
    GROUP BY service, environment, region
)
COMMENT 'The version of each service in each place now: the newest success that was told of there where it still holds, else the newest one that does';;

CREATE OR REPLACE VIEW {database}.what_runs
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
FROM {database}.newest_deployments AS v
FULL OUTER JOIN
(
    SELECT
        region, environment, service,
        arraySort(groupUniqArrayIf(seen_version, seen_version != '')) AS versions,
        arraySort(groupUniqArrayIf(seen_digest, seen_digest != '')) AS digests,
        count() AS instances,
        max(at) AS seen_at
    FROM
    (
        SELECT
            region, environment, service,
            argMax(newest.observation_type, told) AS seen_as, argMax(newest.version, told) AS seen_version,
            argMax(newest.artifact_digest, told) AS seen_digest, max(newest.corrected_at) AS at
        FROM
        (
            -- as one number, which is compared at once: what an instance is said to do stands in the partition of its region
            SELECT *, bitOr(bitShiftLeft(toInt128(toUnixTimestamp64Micro(newest.corrected_at)), 64), toInt128(newest.kafka_offset)) AS told
            FROM {database}.newest_observations
        )
        GROUP BY region, environment, service, cluster, instance
    )
    WHERE seen_as = 'running'
    GROUP BY region, environment, service
) AS o ON o.region = v.region AND o.environment = v.environment AND o.service = v.service
COMMENT 'What runs where now: what was deployed last with success, beside what was last seen to run on each instance';

CREATE OR REPLACE VIEW {database}.drift
AS WITH
    (
        SELECT groupArray((region, environment, service, version, deployment_id, seen_at, seen))
        FROM (SELECT *, arrayJoin(seen_versions) AS seen FROM {database}.what_runs WHERE agreement = 'differs')
        WHERE seen != version
    ) AS differing
SELECT
    w.d.1 AS region,
    w.d.2 AS environment,
    w.d.3 AS service,
    w.d.4 AS deployed_version,
    w.d.5 AS deployed_by,
    w.d.7 AS seen_version,
    w.d.6 AS seen_at,
    i.first_id AS introduced_by,
    i.first_deployer AS introduced_by_deployer,
    if(i.first_id != '', i.first_at, NULL) AS introduced_at
FROM (SELECT arrayJoin(differing) AS d) AS w
LEFT JOIN
(
    SELECT region, environment, service, version,
        argMin(deployment_id, started_at) AS first_id, argMin(deployer, started_at) AS first_deployer, min(started_at) AS first_at
    FROM {database}.deployments
    WHERE started_at IS NOT NULL AND state NOT IN ('voided', 'cancelled', 'registered')
        -- first by what any of its rows says, since the newest row of each has to be found among all
        AND (region, deployment_id) IN
        (
            SELECT region, deployment_id FROM {database}.current_deployments
            WHERE (region, environment, service, version) IN (SELECT d.1, d.2, d.3, d.7 FROM (SELECT arrayJoin(differing) AS d))
        )
    GROUP BY region, environment, service, version
) AS i ON i.region = w.d.1 AND i.environment = w.d.2 AND i.service = w.d.3 AND i.version = w.d.7
COMMENT 'What is seen to run and is not what was deployed last: with the first deployment that brought it, if any did'
