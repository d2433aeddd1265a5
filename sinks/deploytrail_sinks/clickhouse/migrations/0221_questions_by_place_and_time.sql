CREATE OR REPLACE VIEW {database}.deployment_parts
AS WITH links AS
    (
        SELECT deployment_id, argMax(part_of, revision) AS parent, argMax(service, revision) AS of_service
        FROM {database}.part_links
        GROUP BY deployment_id
    )
SELECT
    a.deployment_id AS deployment_id,
    a.parent AS parent_deployment_id,
    multiIf(c.parent != '', c.parent, b.parent != '', b.parent, a.parent) AS root_deployment_id,
    a.of_service AS service
FROM links AS a
LEFT JOIN links AS b ON b.deployment_id = a.parent
LEFT JOIN links AS c ON c.deployment_id = b.parent
COMMENT 'Deployments that are a part of another one that is known, or another name of it, up to three levels below their root';

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

CREATE OR REPLACE VIEW {database}.begun_deployments
AS SELECT DISTINCT deployment_id
FROM {database}.deployment_beginnings
WHERE begun_at >= {since:DateTime64(6, 'UTC')} AND begun_at < {until:DateTime64(6, 'UTC')}
COMMENT 'Deployments of which a revision says that they began in [since, until): those that a question has to look at whole';

CREATE OR REPLACE VIEW {database}.deployments_known
AS SELECT
    r.region AS region, r.deployment_id AS deployment_id,
    r.state AS state,
    r.environment AS environment,
    r.service AS service,
    r.team AS reported_team,
    r.kind AS kind,
    r.rollback_of AS rollback_of,
    r.rolled_back_by AS rolled_back_by,
    r.emergency AS emergency,
    r.started_at AS started_at,
    r.started_at_uncertainty_ms AS started_at_uncertainty_ms,
    r.finished_at AS finished_at,
    r.finished_at_uncertainty_ms AS finished_at_uncertainty_ms,
    r.duration_ms AS duration_ms,
    r.last_event_at AS last_event_at,
    r.version AS version,
    r.artifact_digest AS artifact_digest,
    r.commit_sha AS commit_sha,
    r.deployer AS deployer,
    r.change_ticket AS change_ticket,
    r.feature_ticket AS feature_ticket,
    r.sources AS sources,
    r.registered_at AS registered_at,
    r.provenance AS provenance,
    coalesce(r.started_at, r.finished_at) AS counted_at,
    n.effect.1 AS succeeded_at
FROM {database}.deployment_revisions AS r
INNER JOIN
(
    -- as one number, which is compared at once: the newest revision, of several of one number the one that came last
    SELECT
        region, deployment_id, max(bitOr(bitShiftLeft(toUInt128(revision), 96), bitOr(bitShiftLeft(toUInt128(kafka_offset), 32), toUInt128(kafka_partition)))) AS newest,
        argMaxIf(tuple(finished_at), revision, state = 'succeeded') AS effect
    FROM {database}.deployment_revisions
    WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
    GROUP BY region, deployment_id
) AS n ON n.deployment_id = r.deployment_id AND n.region = r.region
WHERE bitOr(bitShiftLeft(toUInt128(r.revision), 96), bitOr(bitShiftLeft(toUInt128(r.kafka_offset), 32), toUInt128(r.kafka_partition))) = n.newest AND r.merged_into = ''
COMMENT 'One row per deployment as it was known at as_of; succeeded_at is when it took effect, also where it was undone later; another name of a deployment has none';

CREATE OR REPLACE VIEW {database}.effective_places
AS WITH
    told AS
    (
        SELECT
            c.part AS part, c.service AS service, c.environment AS environment, c.region AS region, c.id AS id,
            c.deployment_id AS deployment_id, c.revision AS revision, c.named AS named, c.state AS state, c.finished_at AS finished_at
        FROM {database}.deployment_heads AS h FINAL
        INNER JOIN
        (
            SELECT part, service, environment, region, id, deployment_id, revision, named, state, finished_at
            FROM {database}.placed_deployments FINAL
            WHERE NOT merged
                AND ((state = 'succeeded' AND finished_at <= {at:DateTime64(6, 'UTC')})
                    OR (state = 'rolled_back' AND finished_at > {at:DateTime64(6, 'UTC')}
                        AND (started_at IS NULL OR started_at <= {at:DateTime64(6, 'UTC')})))
        ) AS c ON c.id = h.id AND c.revision = h.revision AND c.state = h.state
    )
SELECT service, environment, region, deployment_id, id, revision, named, since
FROM
(
    SELECT part, service, environment, region, deployment_id, id, revision, named, finished_at AS since
    FROM told
    WHERE state = 'succeeded'
    UNION ALL
    SELECT
        d.part, d.service, d.environment, d.region, d.deployment_id, d.id, d.revision, d.named,
        argMax(u.finished_at, u.revision) AS succeeded_at
    FROM {database}.placed_deployments AS u
    INNER JOIN (SELECT * FROM told WHERE state = 'rolled_back') AS d ON d.id = u.id
    WHERE u.state = 'succeeded'
    GROUP BY d.part, d.service, d.environment, d.region, d.deployment_id, d.id, d.revision, d.named
    HAVING succeeded_at <= {at:DateTime64(6, 'UTC')}
)
WHERE deployment_id NOT IN (SELECT deployment_id FROM {database}.cohorts)
COMMENT 'Deployments that had taken effect at a time and were not undone by then, and the revision that says what they brought; a cohort of the same service is no deployment of its own, and of what was superseded nobody knows that it took effect';

CREATE OR REPLACE VIEW {database}.effective_deployments
AS SELECT
    e.region AS region, e.environment AS environment, e.service AS service, e.deployment_id AS deployment_id,
    p.version AS version, p.artifact_digest AS artifact_digest, p.commit_sha AS commit_sha, p.deployer AS deployer,
    p.provenance AS provenance, e.since AS since
FROM {database}.placed_deployments AS p FINAL
INNER JOIN {database}.effective_places(at = {at:DateTime64(6, 'UTC')}) AS e
    ON e.service = p.service AND e.id = p.id AND e.revision = p.revision
COMMENT 'Deployments that had taken effect at a time and were not undone by then, with what they brought';

CREATE OR REPLACE VIEW {database}.version_at
AS SELECT
    e.region AS region, e.environment AS environment, e.service AS service, p.deployment_id AS deployment_id,
    p.version AS version, p.artifact_digest AS artifact_digest, p.commit_sha AS commit_sha, p.deployer AS deployer,
    p.provenance AS provenance, e.since AS since
FROM {database}.placed_deployments AS p FINAL
INNER JOIN
(
    SELECT service, environment, region,
        argMin(e.id, newest_first) AS id, argMin(e.revision, newest_first) AS revision, argMin(e.since, newest_first) AS since
    FROM
    (
        -- as one text, whose comparison costs a tenth of a tuple's: newest first, of one time the smallest id
        SELECT *, concat(reinterpretAsFixedString(byteSwap(toUInt64(9223372036854775807 - toUnixTimestamp64Micro(since)))), deployment_id) AS newest_first
        FROM {database}.effective_places(at = {at:DateTime64(6, 'UTC')})
        WHERE named
    ) AS e
    GROUP BY service, environment, region
) AS e ON e.service = p.service AND e.id = p.id AND e.revision = p.revision
COMMENT 'The version of each service in each place at a time: of the newest deployment that had taken effect; a rollback that names no version gives way to what ran before';

CREATE OR REPLACE VIEW {database}.active_deployments
AS SELECT * FROM {database}.deployments
WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded')
    AND (region, deployment_id) IN
    (
        SELECT region, deployment_id FROM {database}.current_deployments FINAL
        WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded')
            AND (region, deployment_id) IN
            (
                SELECT region, deployment_id FROM {database}.current_deployments
                WHERE state IN ('queued', 'waiting_approval', 'running', 'degraded')
            )
    )
COMMENT 'What is being deployed now';

CREATE OR REPLACE VIEW {database}.newest_deployments
AS WITH
    -- not FINAL: of an aggregated tuple of which some elements are asked for, it gives those of any row
    newest_told AS
    (
        SELECT service, environment, region, min(newest) AS newest
        FROM {database}.newest_placed
        GROUP BY service, environment, region
    ),
    (
        SELECT groupUniqArray((toString(w.service), toString(w.environment), toString(w.region)))
        FROM {database}.deployment_heads AS h
        RIGHT JOIN
        (
            SELECT service, environment, region, newest.deployment_id AS deployment_id, newest.id AS id, -newest.revision AS revision
            FROM newest_told
        ) AS w ON w.id = h.id
        -- a head that was purged says that it no longer holds; two of one revision differ where its state was lost
        WHERE h.revision > w.revision OR h.revision = 0 OR (h.revision = w.revision AND h.state != 'succeeded') OR w.deployment_id IN (SELECT deployment_id FROM {database}.cohorts)
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
            HAVING max(h.revision) = c.revision AND argMax(h.state, (h.revision, h.kafka_offset)) = 'succeeded'
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
        FROM newest_told
        WHERE (service, environment, region) NOT IN (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(outdated) AS place))
        UNION ALL
        SELECT service, environment, region, (-toUnixTimestamp64Micro(finished_at), deployment_id, version, artifact_digest) AS said
        FROM {database}.placed_deployments
        WHERE (id, revision) IN (SELECT newest.1, newest.2 FROM others)
    )
    GROUP BY service, environment, region
)
COMMENT 'The version of each service in each place now: the newest success that was told of there where it still holds, else the newest one that does';

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
        arraySort(groupUniqArrayIf(newest.version, newest.version != '')) AS versions,
        arraySort(groupUniqArrayIf(newest.artifact_digest, newest.artifact_digest != '')) AS digests,
        count() AS instances,
        max(newest.corrected_at) AS seen_at
    FROM
    (
        -- not FINAL: of an aggregated tuple of which some elements are asked for, it gives those of any row
        SELECT region, environment, service, max(newest) AS newest
        FROM {database}.newest_observations
        GROUP BY region, environment, service, cluster, instance
    )
    WHERE newest.observation_type = 'running'
    GROUP BY region, environment, service
) AS o ON o.region = v.region AND o.environment = v.environment AND o.service = v.service
COMMENT 'What runs where now: what was deployed last with success, beside what was last seen to run on each instance';

CREATE OR REPLACE VIEW {database}.config_at
AS SELECT
    region, environment, service, key,
    newest.1 AS value, newest.2 AS deployment_id, newest.3 AS deployer, newest.4 AS since
FROM
(
    SELECT
        s.region AS region, s.environment AS environment, s.service AS service, s.key AS key,
        argMin(
            (s.value, s.deployment_id, s.deployer, s.since),
            (-toUnixTimestamp64Micro(s.since), s.deployment_id)
        ) AS newest
    FROM
    (
        SELECT
            d.region AS region, d.environment AS environment, d.service AS service, d.deployment_id AS deployment_id,
            d.deployer AS deployer, d.since AS since, e.key AS key,
            argMax(e.value, (e.corrected_at, e.kafka_offset)) AS value
        FROM {database}.config_values AS e
        INNER JOIN
        (
            SELECT t.*, reinterpretAsUInt128(sipHash128(region, deployment_id)) AS id
            FROM {database}.effective_deployments(at = {at:DateTime64(6, 'UTC')}) AS t
        ) AS d ON d.id = e.id
        GROUP BY region, environment, service, deployment_id, deployer, since, key
    ) AS s
    GROUP BY region, environment, service, key
)
COMMENT 'The value of each configuration key in each place at a time, and the deployment that set it';

CREATE OR REPLACE VIEW {database}.who_changed
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
        h.state AS state,
        lagInFrame(e.value, 1, '') OVER (PARTITION BY e.region, e.environment, e.service
            ORDER BY e.changed_at, e.deployment_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before,
        row_number() OVER (PARTITION BY e.region, e.environment, e.service ORDER BY e.changed_at, e.deployment_id) AS place
    FROM (SELECT id AS head, state, merged FROM {database}.deployment_heads FINAL) AS h
    INNER JOIN
    (
        SELECT
            region, environment, service, deployment_id, id, value,
            argMin((corrected_at, uncertainty_ms, kafka_partition, kafka_offset), (corrected_at, kafka_offset)) AS earliest,
            earliest.1 AS changed_at,
            max(deployer) AS who,
            max(commit_sha) AS commit_sha,
            max(change_ticket) AS ticket
        FROM {database}.config_values
        WHERE key = {key:String}
        GROUP BY region, environment, service, deployment_id, id, value
    ) AS e ON e.id = h.head
    WHERE NOT h.merged AND h.state NOT IN ('voided', 'cancelled', 'registered')
)
WHERE place = 1 OR value != before
WINDOW places AS (PARTITION BY region, environment, service ORDER BY changed_at, deployment_id
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
ORDER BY region, environment, service, ordinal
COMMENT 'Who changed a configuration key, in each place: ordinal 1 set it first, the row without until set what holds since; partition and offset on the trail are the proof';

CREATE OR REPLACE VIEW {database}.service_needs
AS WITH RECURSIVE
    (
        SELECT groupArray((service, depends_on))
        FROM {database}.service_owners(as_of = {at:DateTime64(6, 'UTC')})
        WHERE effective_from <= {at:DateTime64(6, 'UTC')} AND effective_until > {at:DateTime64(6, 'UTC')} AND notEmpty(depends_on)
    ) AS every,
    reached AS
    (
        SELECT {service:String} AS service, 0 AS distance
        UNION ALL
        SELECT DISTINCT e.needs AS service, r.distance + 1 AS distance
        FROM reached AS r
        INNER JOIN (SELECT pair.1 AS service, arrayJoin(pair.2) AS needs FROM (SELECT arrayJoin(every) AS pair)) AS e ON e.service = r.service
        WHERE r.distance < 5
    )
SELECT service, min(distance) AS distance FROM reached GROUP BY service
COMMENT 'A service and those that it needs, directly (1) or through others (to 5), by the dependencies in force at that time'
