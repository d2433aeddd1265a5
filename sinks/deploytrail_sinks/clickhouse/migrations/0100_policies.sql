CREATE TABLE IF NOT EXISTS {database}.policies
(
    `kafka_partition` Int32 COMMENT 'Partition of the document.',
    `kafka_offset` Int64 COMMENT 'Offset of the document in its partition.',
    `kafka_timestamp` DateTime64(3, 'UTC') COMMENT 'When it was applied, by Kafka\'s timestamp.',
    `kind` LowCardinality(String) COMMENT 'Kind of the policy, e.g. service.',
    `name` String COMMENT 'Name of the policy; of kind service, the service.',
    `version` Int64 COMMENT 'Version, from 1.',
    `effective_from` DateTime64(6, 'UTC') COMMENT 'From when it holds.',
    `spec` String COMMENT 'What it says, as JSON.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (kind, name, version)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every version of every policy document, as it stands on the policies topic';

CREATE TABLE IF NOT EXISTS {database}.grants
(
    `taken_at` DateTime64(6, 'UTC') COMMENT 'When the file of credentials was read.',
    `credential` String COMMENT 'The credential, as `reporter` names it.',
    `team` LowCardinality(String) COMMENT 'Team whose it is; empty for nobody\'s in particular.',
    `services` Array(String) COMMENT 'Patterns of services that it may speak of.',
    `environments` Array(String) COMMENT 'Patterns of environments that it may speak of.',
    `regions` Array(String) COMMENT 'Patterns of regions that it may speak of.',
    `verbs` Array(String) COMMENT 'What it may do: report, register, approve, signal, observe, relay.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'From when it holds.',
    `expires_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it ends by itself; null for never.',
    `revoked_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was revoked; null if it was not.'
)
ENGINE = MergeTree
ORDER BY (taken_at, credential)
COMMENT 'Who may do what: each reading of the file of credentials; no secret among it';

CREATE VIEW IF NOT EXISTS {database}.service_owners
AS SELECT *
FROM
(
    SELECT
        service,
        version,
        team,
        tier,
        depends_on,
        effective_from,
        leadInFrame(effective_from, 1, toDateTime64('2299-12-31 00:00:00', 6, 'UTC')) OVER following AS effective_until
    FROM
    (
        SELECT
            name AS service,
            version,
            JSONExtractString(spec, 'team') AS team,
            if(JSONType(spec, 'tier') = 'String', JSONExtractString(spec, 'tier'), JSONExtractRaw(spec, 'tier')) AS tier,
            JSONExtract(spec, 'depends_on', 'Array(String)') AS depends_on,
            effective_from,
            kafka_timestamp,
            min(kafka_timestamp) OVER (PARTITION BY name) AS first_known
        FROM {database}.policies FINAL
        WHERE kind = 'service'
    )
    WHERE kafka_timestamp <= {as_of:DateTime64(6, 'UTC')} OR kafka_timestamp = first_known
    WINDOW following AS
        (PARTITION BY service ORDER BY effective_from, version ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
)
WHERE effective_until > effective_from
COMMENT 'Owner, tier and dependencies of each service, with the time in which they held, as known at as_of; the first known version of a policy counts also before it was known'
