CREATE VIEW IF NOT EXISTS {database}.deployment_parts
AS WITH
    links AS
    (
        SELECT deployment_id, argMax(parent_deployment_id, revision) AS parent
        FROM {database}.deployment_revisions
        WHERE parent_deployment_id != '' AND parent_deployment_id != deployment_id
        GROUP BY deployment_id
    ),
    sound AS
    (
        SELECT deployment_id, parent FROM links
        WHERE parent IN
            (SELECT deployment_id FROM {database}.deployment_revisions WHERE deployment_id IN (SELECT parent FROM links))
    )
SELECT
    a.deployment_id AS deployment_id,
    a.parent AS parent_deployment_id,
    multiIf(c.parent != '', c.parent, b.parent != '', b.parent, a.parent) AS root_deployment_id
FROM sound AS a
LEFT JOIN sound AS b ON b.deployment_id = a.parent
LEFT JOIN sound AS c ON c.deployment_id = b.parent
COMMENT 'Deployments that are a part of another one that is known, up to three levels below their root; an unknown parent makes no part';

CREATE VIEW IF NOT EXISTS {database}.deployments_known
AS SELECT
    region,
    deployment_id,
    known.1 AS state,
    known.2 AS environment,
    known.3 AS service,
    known.4 AS reported_team,
    known.5 AS kind,
    known.6 AS rollback_of,
    known.7 AS rolled_back_by,
    known.8 AS emergency,
    known.9 AS started_at,
    known.10 AS started_at_uncertainty_ms,
    known.11 AS finished_at,
    known.12 AS finished_at_uncertainty_ms,
    known.13 AS duration_ms,
    known.14 AS last_event_at,
    known.15 AS version,
    known.16 AS artifact_digest,
    known.17 AS commit_sha,
    known.18 AS deployer,
    known.19 AS change_ticket,
    known.20 AS feature_ticket,
    known.21 AS sources,
    known.22 AS registered_at,
    known.23 AS provenance,
    coalesce(known.9, known.11) AS counted_at,
    effect.1 AS succeeded_at
FROM
(
    SELECT
        region,
        deployment_id,
        argMax(
            tuple(
                state, environment, service, team, kind, rollback_of, rolled_back_by, emergency,
                started_at, started_at_uncertainty_ms, finished_at, finished_at_uncertainty_ms, duration_ms,
                last_event_at, version, artifact_digest, commit_sha, deployer, change_ticket, feature_ticket,
                sources, registered_at, provenance
            ),
            (revision, kafka_offset)
        ) AS known,
        argMaxIf(tuple(finished_at), revision, state = 'succeeded') AS effect
    FROM {database}.deployment_revisions
    WHERE recorded_at <= {as_of:DateTime64(6, 'UTC')}
    GROUP BY region, deployment_id
)
COMMENT 'One row per deployment as it was known at as_of; succeeded_at is when it took effect, also where it was undone later';

CREATE VIEW IF NOT EXISTS {database}.begun_deployments
AS SELECT DISTINCT deployment_id
FROM {database}.deployment_revisions
WHERE coalesce(started_at, finished_at) >= {since:DateTime64(6, 'UTC')}
    AND coalesce(started_at, finished_at) < {until:DateTime64(6, 'UTC')}
COMMENT 'Deployments of which a revision says that they began in [since, until): those that a question has to look at whole';

CREATE VIEW IF NOT EXISTS {database}.counted_deployments
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
        d.state = 'lost', 'lost',
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
COMMENT 'Deployments that began in [since, until) as known at as_of, the team that owned the service on that day, and what each counts as: part, excluded, rollback, pending, lost, failed, succeeded';

CREATE VIEW IF NOT EXISTS {database}.incident_causes
AS WITH
    answers AS
    (
        SELECT signal_id, deployment_id, argMax((rank, probability), kafka_offset) AS said
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        GROUP BY signal_id, deployment_id
    ),
    best AS
    (
        SELECT
            signal_id,
            argMaxIf((deployment_id, said.2), said.2, deployment_id != '') AS likely,
            maxIf(said.2, deployment_id = '') AS none
        FROM answers
        WHERE said.1 > 0
        GROUP BY signal_id
    ),
    alerts AS
    (
        SELECT
            signal_id, signal_type, region, environment, service, severity, title, incident_id,
            if(fingerprint != '', fingerprint, title) AS fingerprint,
            corrected_at AS at
        FROM {database}.signals
        WHERE received_at <= {as_of:DateTime64(6, 'UTC')} AND environment = {environment:String}
            AND signal_type IN ('alert_firing', 'alert_resolved', 'incident_opened', 'incident_resolved')
            AND corrected_at >= {since:DateTime64(6, 'UTC')} AND source != 'deploytrail'
        ORDER BY kafka_partition, kafka_offset
        LIMIT 1 BY signal_id
    )
SELECT
    f.signal_id AS signal_id,
    f.region AS region,
    f.environment AS environment,
    f.service AS service,
    f.severity AS severity,
    f.title AS title,
    f.incident_id AS incident_id,
    f.at AS began_at,
    if(toYear(r.at) > 1970, r.at, NULL) AS ended_at,
    b.likely.1 AS likely_deployment_id,
    coalesce(b.likely.2, 0) AS likely_probability,
    coalesce(b.none, 0) AS none_probability,
    multiIf(b.signal_id = '', 'unjudged', likely_probability >= 0.5, 'deployment', 'none') AS explained_by
FROM
(
    SELECT * FROM alerts
    WHERE signal_type IN ('alert_firing', 'incident_opened') AND severity IN ('critical', 'error')
        AND at < {until:DateTime64(6, 'UTC')}
) AS f
ASOF LEFT JOIN
(
    SELECT * FROM alerts WHERE signal_type IN ('alert_resolved', 'incident_resolved')
) AS r
    ON r.region = f.region AND r.service = f.service AND r.fingerprint = f.fingerprint AND r.at >= f.at
LEFT JOIN best AS b ON b.signal_id = f.signal_id
ORDER BY began_at, signal_id
LIMIT 1 BY region, service, f.fingerprint, ended_at
COMMENT 'Critical and error alerts that began in [since, until): their end, their likely cause with its probability, and whether a deployment explains them (0.5 and more); what fires again before its end is one incident';

CREATE VIEW IF NOT EXISTS {database}.change_failures
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
LEFT JOIN
(
    SELECT
        if(p.root_deployment_id != '', p.root_deployment_id, f.deployment_id) AS root,
        max(f.said.2) AS probability,
        groupUniqArrayIf(f.signal_id, f.said.2 > 0) AS signals
    FROM
    (
        SELECT signal_id, deployment_id, argMax((rank, probability), kafka_offset) AS said
        FROM {database}.findings
        WHERE rule = 'incident_correlation' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
            AND deployment_id != '' AND severity IN ('critical', 'error')
            AND occurred_at >= {since:DateTime64(6, 'UTC')}
        GROUP BY signal_id, deployment_id
    ) AS f
    LEFT JOIN {database}.deployment_parts AS p ON p.deployment_id = f.deployment_id
    WHERE f.said.1 > 0
    GROUP BY root
) AS i ON i.root = c.deployment_id
COMMENT 'How likely each finished change failed: 1 where it failed or was undone, else the largest probability with which an alert is explained by it or a part of it'
