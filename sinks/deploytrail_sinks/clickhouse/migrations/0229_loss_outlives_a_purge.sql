CREATE TABLE IF NOT EXISTS {database}.purged_numbers
(
    `producer_id` String COMMENT 'Names the clock that counted.',
    `seq` Int64 COMMENT 'The number that a purged record had in its producer\'s gapless count.',
    `told_lost` Int64 COMMENT 'How many events that record said had found no room in a spool.',
    `received_at` DateTime64(6, 'UTC') COMMENT 'When the purged record was received.',
    `kafka_timestamp` DateTime64(3, 'UTC') COMMENT 'Kafka\'s timestamp of the purged record.'
)
ENGINE = ReplacingMergeTree
ORDER BY (producer_id, seq, received_at, kafka_timestamp)
COMMENT 'Numbers of records that a purge deleted: they had arrived, so they are not lost; no purge touches them';

CREATE OR REPLACE VIEW {database}.arrived_numbers
AS SELECT producer_id, seq, max(said) AS told
FROM
(
    SELECT producer_id, producer_seq AS seq, 0 AS said FROM {database}.deployment_events
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, toInt64OrZero(tags['producer_seq']), 0 FROM {database}.approvals
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, toInt64OrZero(labels['producer_seq']), toInt64OrZero(labels['lost_events']) FROM {database}.signals
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, toInt64OrZero(tags['producer_seq']), 0 FROM {database}.observations
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
    UNION ALL
    SELECT producer_id, seq, told_lost FROM {database}.purged_numbers
    WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')} AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
)
WHERE seq > 0 AND producer_id != ''
GROUP BY producer_id, seq
COMMENT 'Numbers of each producer\'s gapless count that had arrived by as_of, by Kafka\'s time, among those received in [since, until), what a purge took included; told is what the record says itself found no room in a spool';

CREATE OR REPLACE VIEW {database}.loss_as_of
AS SELECT
    producer_id,
    min(seq) AS first_seq,
    max(seq) AS last_seq,
    count() AS arrived,
    last_seq - first_seq + 1 - arrived AS missing,
    sum(told) AS told_lost,
    missing / (last_seq - first_seq + 1) AS loss_rate
FROM {database}.arrived_numbers(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = {as_of:DateTime64(6, 'UTC')})
GROUP BY producer_id
ORDER BY missing DESC, producer_id
COMMENT 'Loss per producer as it was known at as_of, by Kafka\'s time: numbers of its gapless count that never arrived among those received in [since, until), what a purge took included; told_lost is what it said itself found no room in its spool';

CREATE OR REPLACE VIEW {database}.loss
AS SELECT * FROM {database}.loss_as_of(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, as_of = '2299-12-31 00:00:00')
ORDER BY missing DESC, producer_id
COMMENT 'Loss per producer: numbers of its gapless count that never arrived among those received in [since, until), what a purge took included; told_lost is what it said itself found no room in its spool';

CREATE OR REPLACE VIEW {database}.tracker_slo
AS WITH
    (
        SELECT (count(), countIf(lag > {limit_ms:UInt32}))
        FROM
        (
            -- of an event that was sent again, what came first
            SELECT min(dateDiff('millisecond', received_at, kafka_timestamp)) AS lag
            FROM {database}.deployment_events
            WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
            GROUP BY event_id
        )
    ) AS seen,
    -- what a producer tells of has numbers, too, which are missing: each lost event is one, not two
    (SELECT sum(greatest(missing, told_lost)) FROM {database}.loss(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})) AS lost_events,
    (
        SELECT count() FROM {database}.dead_letters
        WHERE kafka_timestamp >= {since:DateTime64(6, 'UTC')} AND kafka_timestamp < {until:DateTime64(6, 'UTC')}
            AND reason NOT IN ('unauthenticated', 'out_of_scope')
    ) AS set_aside
SELECT
    seen.1 + lost_events + set_aside AS total,
    seen.2 AS late,
    lost_events AS lost,
    set_aside AS dead_letters,
    late + lost + dead_letters AS bad,
    if(total = 0, NULL, 1 - bad / total) AS availability,
    {objective:Float64} AS objective,
    (1 - objective) * total AS budget,
    if(budget = 0, NULL, bad / budget) AS budget_spent
COMMENT 'The tracker\'s own objective: of all events of [since, until), those that reached the trail within limit_ms of their receipt; late, lost (gaps of the producers\' counts, or what these told of where that is more) and set aside ones spend the budget'
