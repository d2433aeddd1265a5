-- what_runs for one service, without what that reads of all others: each look at the newest revisions names the few deployments that it
-- is about. A test compares the two. Each value is referred to as rarely as can be, since the analysis follows every reference to its
-- beginning again.
CREATE OR REPLACE VIEW {database}.what_runs_of
AS WITH
    told AS
    (
        -- newest first, of one time the smallest id, of one deployment its last word
        SELECT
            toString(environment) AS environment, toString(region) AS region,
            argMin(newest, (newest.ended, newest.deployment_id, newest.revision)) AS first, first.id AS id, -first.revision AS revision
        FROM {database}.newest_placed
        WHERE service = {service:String}
        GROUP BY environment, region
    ),
    (
        SELECT groupArray((environment, region, first.ended, first.deployment_id, first.version, first.artifact_digest, outdated))
        FROM
        (
            -- a head that was purged says that it no longer holds; two of one revision differ where its state was lost
            SELECT w.environment AS environment, w.region AS region, any(w.first) AS first,
                max(h.revision > w.revision OR h.revision = 0 OR (h.revision = w.revision AND h.state != 'succeeded')) AS outdated
            FROM (SELECT id, revision, state FROM {database}.deployment_heads WHERE id IN (SELECT id FROM told)) AS h
            RIGHT JOIN told AS w ON w.id = h.id
            GROUP BY w.environment, w.region
        )
    ) AS newest_told,
    (
        -- what may stand in the place of what is outdated, and parts, which are none of the newest told, where they are newer
        SELECT groupArray((toString(p.environment), toString(p.region), -toUnixTimestamp64Micro(p.finished_at), p.deployment_id, p.version,
            p.artifact_digest, p.part, p.id, p.revision))
        FROM {database}.placed_deployments AS p
        LEFT JOIN
        (
            SELECT t.1 AS environment, t.2 AS region, t.3 AS ended, t.7 AS outdated, 1 AS known
            FROM (SELECT arrayJoin(newest_told) AS t)
        ) AS w ON w.environment = p.environment AND w.region = p.region
        WHERE p.service = {service:String} AND p.state = 'succeeded' AND NOT p.merged AND p.named
            AND if(p.part, w.known = 0 OR w.outdated OR -toUnixTimestamp64Micro(p.finished_at) <= w.ended, w.outdated)
    ) AS candidates,
    (
        SELECT groupArray(said)
        FROM
        (
            SELECT any(c.candidate) AS said
            FROM (SELECT id, revision, state, kafka_offset FROM {database}.deployment_heads WHERE id IN (SELECT arrayJoin(candidates.8))) AS h
            INNER JOIN (SELECT arrayJoin(candidates) AS candidate, candidate.8 AS id, candidate.9 AS revision) AS c ON c.id = h.id
            GROUP BY c.id, c.revision
            HAVING max(h.revision) = c.revision AND argMax(h.state, (h.revision, h.kafka_offset)) = 'succeeded'
        )
    ) AS standing,
    (
        SELECT groupUniqArrayArray([(toString(region), deployment_id), (toString(region), part_of)]) FROM {database}.part_history
        WHERE (region, deployment_id) IN (SELECT s.2, s.4 FROM (SELECT arrayJoin(standing) AS s) WHERE s.7)
    ) AS parts_and_parents,
    (
        SELECT groupUniqArrayArray([(toString(region), deployment_id), (toString(region), part_of)]) FROM {database}.part_history
        WHERE (region, deployment_id) IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(parts_and_parents) AS part))
    ) AS family,
    (
        -- the last word of each that is a part, unless its newest revision takes it back
        SELECT groupArray((region, deployment_id, parent, of_service))
        FROM
        (
            SELECT any(p.region) AS region, any(p.deployment_id) AS deployment_id, any(p.parent) AS parent, any(p.of_service) AS of_service
            FROM
            (
                SELECT id, revision, kafka_offset FROM {database}.deployment_heads
                WHERE id IN (SELECT reinterpretAsUInt128(sipHash128(toLowCardinality(part.1), part.2)) FROM (SELECT arrayJoin(family) AS part))
            ) AS h
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
        -- each link beside the one of its parent, and that one's: grouped by whom they name, since links cannot be joined with themselves
        -- without a second reference
        SELECT groupArray((link.1, link.2, link.4,
            reinterpretAsUInt128(sipHash128(toLowCardinality(link.1), multiIf(third != '', third, second != '', second, link.3)))))
        FROM
        (
            SELECT arrayJoin(below) AS each, each.1 AS link, each.2 AS second, above AS third
            FROM
            (
                SELECT groupArrayIf((said.4, said.5), NOT said.3) AS below, anyIf(said.4.3, said.3) AS above
                FROM
                (
                    SELECT arrayJoin([(link.1, link.2, true, link, second), (link.1, second, false, link, second)]) AS said
                    FROM
                    (
                        SELECT arrayJoin(below) AS link, above AS second
                        FROM
                        (
                            SELECT groupArrayIf(said.4, NOT said.3) AS below, anyIf(said.4.3, said.3) AS above
                            FROM (SELECT arrayJoin([(link.1, link.2, true, link), (link.1, link.3, false, link)]) AS said FROM (SELECT arrayJoin(links) AS link))
                            GROUP BY said.1, said.2
                        )
                    )
                )
                GROUP BY said.1, said.2
            )
        )
    ) AS rooted,
    (
        -- a cohort of its whole is no deployment of its own
        SELECT groupArray((region, deployment_id))
        FROM
        (
            SELECT
                part.root.1 AS region, part.root.2 AS deployment_id, any(part.root.3) AS of_service,
                argMax((toString(head.service), head.merged), head.revision) AS newest
            FROM (SELECT id, revision, service, merged FROM {database}.deployment_heads WHERE id IN (SELECT arrayJoin(rooted.4))) AS head
            INNER JOIN (SELECT arrayJoin(rooted) AS root, root.4 AS id) AS part ON part.id = head.id
            GROUP BY head.id, part.root.1, part.root.2
        )
        WHERE newest.1 = of_service AND NOT newest.2
    ) AS no_wholes
SELECT
    if(v.environment != '', v.region, o.region) AS region,
    if(v.environment != '', v.environment, o.environment) AS environment,
    {service:String} AS service,
    v.newest.2 AS deployment_id,
    v.newest.3 AS version,
    v.newest.4 AS artifact_digest,
    fromUnixTimestamp64Micro(-v.newest.1, 'UTC') AS since,
    o.versions AS seen_versions,
    o.instances AS seen_instances,
    if(o.environment != '', o.seen_at, NULL) AS seen_at,
    multiIf(
        o.environment = '', 'not_seen',
        v.environment = '', 'not_deployed',
        (version != '' AND o.versions = [version]) OR (artifact_digest != '' AND o.digests = [artifact_digest]), 'as_deployed',
        'differs') AS agreement
FROM
(
    SELECT environment, region, min(said) AS newest
    FROM
    (
        SELECT t.1 AS environment, t.2 AS region, (t.3, t.4, t.5, t.6) AS said
        FROM (SELECT arrayJoin(newest_told) AS t)
        WHERE NOT t.7
        UNION ALL
        SELECT s.1 AS environment, s.2 AS region, (s.3, s.4, s.5, s.6) AS said
        FROM (SELECT arrayJoin(standing) AS s)
        WHERE NOT s.7 OR (s.2, s.4) NOT IN (SELECT part.1, part.2 FROM (SELECT arrayJoin(no_wholes) AS part))
    )
    GROUP BY environment, region
) AS v
FULL OUTER JOIN
(
    SELECT
        toString(region) AS region, toString(environment) AS environment,
        arraySort(groupUniqArrayIf(seen_version, seen_version != '')) AS versions,
        arraySort(groupUniqArrayIf(seen_digest, seen_digest != '')) AS digests,
        count() AS instances,
        max(at) AS seen_at
    FROM
    (
        SELECT
            region, environment,
            argMax(newest.observation_type, said) AS seen_as, argMax(newest.version, said) AS seen_version,
            argMax(newest.artifact_digest, said) AS seen_digest, max(newest.corrected_at) AS at
        FROM
        (
            SELECT *, bitOr(bitShiftLeft(toInt128(toUnixTimestamp64Micro(newest.corrected_at)), 64), toInt128(newest.kafka_offset)) AS said
            FROM {database}.newest_observations
            WHERE service = {service:String}
        )
        GROUP BY region, environment, cluster, instance
    )
    WHERE seen_as = 'running'
    GROUP BY region, environment
) AS o ON o.region = v.region AND o.environment = v.environment
COMMENT 'What runs where now of one service: what was deployed last with success, beside what was last seen to run on each instance'
