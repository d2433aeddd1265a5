CREATE TABLE IF NOT EXISTS {database}.purges
(
    `purge_id` String COMMENT 'UUID of the purge.',
    `purged_at` DateTime64(6, 'UTC') COMMENT 'When it began.',
    `before` DateTime64(6, 'UTC') COMMENT 'Rows older than this went.',
    `deleted` UInt64 COMMENT 'Rows that went, of all tables.',
    `production_untouched` Bool COMMENT 'Whether production had as many rows after as before, with the same values.',
    `receipt` String COMMENT 'The whole receipt, JSON: policy, what went, and the proof of each table.'
)
ENGINE = MergeTree
ORDER BY (purged_at, purge_id)
COMMENT 'Receipts of what was purged';
