"""The ClickHouse sink: Avro passed through, exactly once by topic, partition and offset."""
