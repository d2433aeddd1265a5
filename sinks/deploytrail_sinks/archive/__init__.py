"""The archive: write-once segments of raw Kafka records that can be checked offline."""
