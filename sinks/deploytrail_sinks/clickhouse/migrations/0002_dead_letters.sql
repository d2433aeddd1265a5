CREATE TABLE IF NOT EXISTS {database}.dead_letters
(
    `kafka_partition` Int32 COMMENT 'Partition of the dead letter.',
    `kafka_offset` Int64 COMMENT 'Offset of the dead letter in its partition.',
    `kafka_timestamp` DateTime64(3, 'UTC') COMMENT 'When it was set aside.',
    `reason` LowCardinality(String) COMMENT 'Why, a word of a closed list.',
    `detail` String COMMENT 'What was wrong, in words.',
    `origin_topic` LowCardinality(String) COMMENT 'Topic that the message came from.',
    `origin_partition` Int32 COMMENT 'Partition that the message came from.',
    `origin_offset` Int64 COMMENT 'Offset that the message came from.',
    `key` String COMMENT 'Its key, raw bytes.',
    `value` String COMMENT 'Its value, raw bytes.',
    `headers` Map(String, String) COMMENT 'Its own headers; bytes that are no UTF-8 are escaped.'
)
ENGINE = MergeTree
ORDER BY (kafka_timestamp, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Messages that could not be read or written, as they came';
