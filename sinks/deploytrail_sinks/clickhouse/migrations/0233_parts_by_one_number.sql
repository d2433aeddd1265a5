CREATE OR REPLACE VIEW {database}.parts_known
AS WITH
    (
        -- a value, since that is computed once, and a subquery wherever it stands
        SELECT groupUniqArray(deployment_id)
        FROM
        (
            SELECT any(p.deployment_id) AS deployment_id
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT id, any(its_id) AS deployment_id, min(revision) AS first, uniqExact(revision) AS told, max(said) AS newest
                FROM
                (
                    SELECT
                        reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id, deployment_id AS its_id, revision,
                        bitOr(bitShiftLeft(toUInt128(revision), 64), toUInt128(kafka_offset)) AS said
                    FROM {database}.part_history
                )
                GROUP BY id
            ) AS p ON p.id = h.id
            GROUP BY h.id
            HAVING max(h.revision) - any(p.first) + 1 > any(p.told)
                OR max(bitOr(bitShiftLeft(toUInt128(h.revision), 64), toUInt128(h.kafka_offset))) != any(p.newest)
        )
    ) AS taken_back,
    links AS
    (
        SELECT region, deployment_id, argMax(part_of, said) AS parent, argMax(service, said) AS of_service
        FROM
        (
            SELECT region, deployment_id, part_of, service, bitOr(bitShiftLeft(toUInt128(revision), 64), toUInt128(kafka_offset)) AS said
            FROM {database}.part_history
            WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
            UNION ALL
            SELECT region, deployment_id, part_of, service, bitOr(bitShiftLeft(toUInt128(revision), 64), toUInt128(kafka_offset)) AS said
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

CREATE OR REPLACE VIEW {database}.cohorts
AS SELECT region, deployment_id
FROM
(
    SELECT
        part.region AS region, part.deployment_id AS deployment_id, any(part.service) AS service,
        argMax(root.service, root.revision) AS root_service, argMax(root.merged, root.revision) AS root_merged
    FROM {database}.deployment_heads AS root
    INNER JOIN
    (
        SELECT region, deployment_id, service, reinterpretAsUInt128(sipHash128(region, root_deployment_id)) AS root_id
        FROM {database}.deployment_parts
    ) AS part ON part.root_id = root.id
    GROUP BY root.id, part.region, part.deployment_id
)
WHERE root_service = service AND NOT root_merged
COMMENT 'Parts of a deployment of the same service: a cohort of it, and no deployment of its own'
