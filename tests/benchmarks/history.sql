-- What is the same for every row about deployment d; u(d, n) is a number in [0, 1) of its own.
WITH
    (x, n) -> cityHash64(x, n) / 18446744073709551616. AS u,
    -- ids as they come: counted by two webhooks, of the library (UUIDs of version 7), and a fifth at random
    x -> multiIf(
        x % 5 < 2, concat('github:api.github.com:', toString(2000000000 + x)),
        x % 5 = 2, concat('gitlab:git.example:', toString(500000000 + x)),
        x % 5 = 3, lower(concat(substring(hex(toUInt64(1730419200000 + 86400000 * {days} * x / {deployments})), 5), hex(sipHash64(x)))),
        concat('argocd:', hex(sipHash64(x)))) AS name,
    toUInt32(floor({services} * pow(u(d, 1), 3))) AS s,
    arrayElement(['eu-west-1', 'eu-west-1', 'eu-west-1', 'us-east-1', 'us-east-1', 'us-west-2', 'eu-north-1', 'ap-southeast-1', 'sa-east-1', 'eu-west-1'], 1 + toUInt8(floor(10 * u(d, 2)))) AS region_,
    arrayElement(['production', 'production', 'staging', 'staging', 'development'], 1 + toUInt8(floor(5 * u(d, 3)))) AS environment_,
    toDate('{first_day}') + toUInt32(floor({days} * d / {deployments})) AS day_,
    if(toDayOfWeek(day_) > 5 AND u(d, 4) < 0.8, day_ - 2, day_) AS workday,
    toDateTime64(workday, 6, 'UTC') + toIntervalMicrosecond(toInt64(1000000 * (25200 + 18000 * (u(d, 5) + u(d, 6))))) AS began,
    toInt64(1000000 * exp(4 + 2.5 * u(d, 7))) AS took,
    multiIf(u(d, 8) < 0.06, 'failed', u(d, 8) < 0.08, 'rolled_back', u(d, 8) < 0.085, 'lost', 'succeeded') AS end_,
    concat('svc-', leftPad(toString(s), 4, '0')) AS service_,
    name(d) AS id_,
    concat('1.', toString(intDiv(d, {services})), '.', toString(s % 10)) AS version_,
    lower(concat(hex(sipHash128(d)), hex(d % 65536))) AS commit_,
    concat('sha256:', lower(concat(hex(sipHash128(d, 1)), hex(sipHash128(d, 2))))) AS digest_,
    concat('person-', toString(toUInt32(floor(600 * pow(u(d, 9), 2))))) AS deployer_,
    multiIf(u(d, 10) < 0.75, 'release', u(d, 10) < 0.87, 'configuration_change', u(d, 10) < 0.93, 'hotfix', u(d, 10) < 0.96, 'database_migration', 'rollback') AS kind_,
    if(u(d, 11) < 0.9, concat('CHG', toString(d)), '') AS ticket_,
    arrayElement(['github_actions', 'github_actions', 'gitlab_ci', 'jenkins', 'argo_cd'], 1 + s % 5) AS tool_;

-- the policies
INSERT INTO {db}.policies (kafka_partition, kafka_offset, kafka_timestamp, kind, name, version, effective_from, spec)
SELECT
    0, number, '2024-01-01 00:00:00', 'service', concat('svc-', leftPad(toString(number % {services}), 4, '0')), 1 + intDiv(number, {services}),
    if(number < {services}, '2024-01-01 00:00:00', '2025-11-01 00:00:00'),
    concat('{{"team": "team-', toString((number * 7 + intDiv(number, {services})) % {teams}), '", "tier": "', toString(1 + number % 4),
        '", "depends_on": ["svc-', leftPad(toString(cityHash64(number, 1) % {services}), 4, '0'), '", "svc-',
        leftPad(toString(cityHash64(number, 2) % 50), 4, '0'), '"]}}')
FROM numbers(2 * {services});

INSERT INTO {db}.deployment_events
    (kafka_partition, kafka_offset, kafka_timestamp, event_id, event_type, deployment_id, occurred_at, region, environment, service,
     producer_id, producer_seq, kind, version, artifact_digest, commit_sha, repository, build_system, build_id, deployer, change_ticket,
     source, provenance, confidence, config_changes, tags, sent_at, received_at, corrected_at, uncertainty_ms, reporter)
{facts}
SELECT
    1, number, at + toIntervalMillisecond(150 + number % 900), toString(generateUUIDv7(number)),
    arrayElement(['queued', 'started', 'progressed', if(end_ IN ('failed', 'lost'), end_, 'succeeded')], step + 1), id_, at, region_, environment_, service_,
    concat('runner-', toString(s % 400)), number, kind_, version_, digest_, commit_, concat('git.example/', service_), tool_, toString(d), deployer_, ticket_,
    tool_, 'reported', 1, if(step = 1 AND d % 7 = 0, map('pool_size', toString(d % 5)), map()),
    if(step = 1, map('committed_at', formatDateTime(began - toIntervalSecond(3600 + d % 90000), '%Y-%m-%dT%H:%i:%SZ')), map()),
    at, at + toIntervalMillisecond(100), at, 20, concat('dtk_', toString(s % 300))
FROM
(
    SELECT number, intDiv(number, 4) AS d, number % 4 AS step FROM numbers({first} * 4, {count} * 4)
)
ARRAY JOIN [began + toIntervalMicrosecond(toInt64(took * (toInt64(step) - 1) / 2))] AS at
WHERE NOT (step = 3 AND end_ = 'lost');

INSERT INTO {db}.deployment_revisions
    (kafka_partition, kafka_offset, kafka_timestamp, deployment_id, revision, state, recorded_at, region, environment, service,
     kind, strategy, parent_deployment_id, part_of, version, artifact_digest, commit_sha, repository, build_system, build_id, deployer, change_ticket,
     started_at, started_at_uncertainty_ms, finished_at, finished_at_uncertainty_ms, duration_ms, last_event_at, event_count, sources,
     provenance, confidence)
{facts}
SELECT
    1, number, recorded, id_, step + 1, arrayElement(['queued', 'running', end_], step + 1), recorded, region_, environment_, service_,
    kind_, 'rolling', if(d % 50 = 49, name(d - 1), '') AS parent_, parent_, version_, digest_, commit_, concat('git.example/', service_), tool_, toString(d), deployer_, ticket_,
    if(step > 0, began, NULL), if(step > 0, 20, NULL), if(step = 2 AND end_ != 'lost', began + toIntervalMicrosecond(took), NULL),
    if(step = 2, 20, NULL), if(step = 2, intDiv(took, 1000), NULL), began, step + 1, [tool_], 'reported', 1
FROM
(
    SELECT number, intDiv(number, 3) AS d, number % 3 AS step FROM numbers({first} * 3, {count} * 3)
)
ARRAY JOIN [began + toIntervalMicrosecond(toInt64(took * (toInt64(step) - 1)))] AS recorded;

INSERT INTO {db}.findings
    (kafka_partition, kafka_offset, kafka_timestamp, finding_id, rule, rule_version, verdict, reason, severity, occurred_at, region,
     environment, service, deployment_id, explanation)
{facts}
SELECT
    1, d, began, toString(generateUUIDv7(d)), 'change_window', 1, if(d % 30 = 0, 'violation', 'ok'),
    if(d % 30 = 0, 'outside_allowed_windows', 'inside_allowed_window'), 'warning', began, region_, environment_, service_, id_,
    'the window of working days covers it'
FROM (SELECT number AS d FROM numbers({first}, {count}));

INSERT INTO {db}.signals
    (kafka_partition, kafka_offset, kafka_timestamp, signal_id, signal_type, occurred_at, region, environment, service, producer_id, source,
     fingerprint, severity, title, received_at, corrected_at, uncertainty_ms)
{facts}
SELECT
    1, d, at, concat('s-', toString(d), '-', toString(step)), if(step = 0, 'alert_firing', 'alert_resolved'), at, region_, environment_, service_,
    'alertmanager', 'alertmanager', concat('f-', toString(d)), arrayElement(['critical', 'error', 'warning'], 1 + d % 3), 'HighErrorRate', at, at, 20
FROM (SELECT number AS d FROM numbers({first}, {count}) WHERE number % 40 = 0)
ARRAY JOIN [0, 1] AS step, [began + toIntervalMinute(6), began + toIntervalMinute(30 + d % 90)] AS at;

INSERT INTO {db}.findings
    (kafka_partition, kafka_offset, kafka_timestamp, finding_id, rule, rule_version, verdict, reason, severity, occurred_at, region,
     environment, service, deployment_id, signal_id, rank, probability, explanation)
{facts}
SELECT
    1, 1000000000 + d * 3 + place, began + toIntervalMinute(6), toString(generateUUIDv7(d)), 'incident_correlation', 2, 'inconclusive',
    if(place = 2, 'no_deployment_explains_it', 'deployed_shortly_before'), arrayElement(['critical', 'error', 'warning'], 1 + d % 3),
    began + toIntervalMinute(6), region_, environment_, service_,
    multiIf(place = 2, '', place = 1, name(d + 1), id_), concat('s-', toString(d), '-0'), place + 1,
    arrayElement([0.55, 0.1, 0.35], place + 1), 'in words of some length, for it and against it'
FROM (SELECT number AS d FROM numbers({first}, {count}) WHERE number % 40 = 0)
ARRAY JOIN [0, 1, 2] AS place;

INSERT INTO {db}.observations
    (kafka_partition, kafka_offset, kafka_timestamp, observation_id, observation_type, occurred_at, region, environment, service, producer_id,
     cluster, instance, version, artifact_digest, source, received_at, corrected_at, uncertainty_ms)
{facts}
SELECT
    1, d, ended, toString(generateUUIDv7(d)), 'running', ended, region_, environment_, service_, 'observer', region_,
    concat(service_, '-', toString(d % 3)), version_, digest_, 'kubernetes', ended, ended, 20
FROM (SELECT number AS d FROM numbers({first}, {count}) WHERE number % 4 = 0)
ARRAY JOIN [began + toIntervalMicrosecond(took)] AS ended;

INSERT INTO {db}.approvals
    (kafka_partition, kafka_offset, kafka_timestamp, approval_id, approval_type, occurred_at, region, environment, service, producer_id,
     deployment_id, change_ticket, ticket_state, approver, source, received_at, corrected_at, uncertainty_ms, reporter)
{facts}
SELECT
    1, d, at, toString(generateUUIDv7(d)), 'approved', at, region_, environment_, service_, 'servicenow', id_, ticket_, 'approved',
    concat('person-', toString(d % 50)), 'servicenow', at, at, 20, 'dtk_desk'
FROM (SELECT number AS d FROM numbers({first}, {count}))
ARRAY JOIN [began - toIntervalMinute(30)] AS at
WHERE environment_ = 'production' AND ticket_ != ''
