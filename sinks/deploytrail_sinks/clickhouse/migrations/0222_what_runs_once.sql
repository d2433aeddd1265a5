CREATE OR REPLACE VIEW {database}.cohorts
AS SELECT DISTINCT deployment_id
FROM
(
    SELECT part.deployment_id AS deployment_id, part.service AS service, argMax((root.service, root.merged), root.revision) AS newest
    FROM {database}.deployment_heads AS root
    INNER JOIN
    (
        SELECT deployment_id, service, reinterpretAsUInt128(sipHash128(toLowCardinality(region), root_deployment_id)) AS root_id
        FROM {database}.deployment_parts
        ARRAY JOIN (SELECT groupArray(toString(r.region)) FROM (SELECT DISTINCT region FROM {database}.deployment_heads) AS r) AS region
    ) AS part ON part.root_id = root.id
    GROUP BY root.id, deployment_id, service
)
WHERE newest.1 = service AND NOT newest.2
COMMENT 'Parts of a deployment of the same service: a cohort of it, and no deployment of its own';

CREATE OR REPLACE VIEW {database}.newest_deployments
AS WITH
    (
        SELECT groupUniqArray((toString(w.service), toString(w.environment), toString(w.region)))
        FROM {database}.deployment_heads AS h
        INNER JOIN
        (
            SELECT service, environment, region, newest.deployment_id AS deployment_id, newest.id AS id, -newest.revision AS revision
            FROM {database}.newest_placed FINAL
        ) AS w ON w.id = h.id
        WHERE h.revision > w.revision OR w.deployment_id IN (SELECT deployment_id FROM {database}.cohorts)
    ) AS outdated,  -- a value, since that is computed once, and a subquery wherever it stands
    others AS
    (
        SELECT service, environment, region, argMin((id, revision), (-toUnixTimestamp64Micro(finished_at), deployment_id)) AS newest
        FROM
        (
            SELECT
                c.id AS id, c.revision AS revision, any(c.service) AS service, any(c.environment) AS environment, any(c.region) AS region,
                any(c.deployment_id) AS deployment_id, any(c.finished_at) AS finished_at
            FROM {database}.deployment_heads AS h
            INNER JOIN
            (
                SELECT service, environment, region, id, deployment_id, revision, finished_at FROM {database}.placed_deployments
                WHERE (part OR (service, environment, region) IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place)))
                    AND state = 'succeeded' AND NOT merged AND named
            ) AS c ON c.id = h.id
            GROUP BY c.id, c.revision
            HAVING max(h.revision) = c.revision
        )
        WHERE deployment_id NOT IN (SELECT deployment_id FROM {database}.cohorts)
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
        FROM {database}.newest_placed FINAL
        WHERE (service, environment, region) NOT IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
        UNION ALL
        SELECT service, environment, region, (-toUnixTimestamp64Micro(finished_at), deployment_id, version, artifact_digest) AS said
        FROM {database}.placed_deployments
        WHERE (id, revision) IN (SELECT newest.1, newest.2 FROM others)
    )
    GROUP BY service, environment, region
)
COMMENT 'The version of each service in each place now: the newest success that was told of there where it still holds, else the newest one that does'
