ALTER TABLE {database}.deployment_revisions_rehydrated ADD COLUMN IF NOT EXISTS `merged_into` String COMMENT 'Deployment that this id was another name of; its record stands for both. Empty: this record stands for itself.',
    ADD COLUMN IF NOT EXISTS `deployment_ids` Array(String) COMMENT 'Ids under which it was reported, sorted, its own among them.',
    ADD COLUMN IF NOT EXISTS `part_of` String COMMENT 'Deployment that this one is counted as a part of, where that is known; empty: it counts for itself.',
    ADD COLUMN IF NOT EXISTS `components` Map(String, String) COMMENT 'State of each service by its name, where one deployment changes several.',
    ADD COLUMN IF NOT EXISTS `superseded_by` String COMMENT 'The next deployment of the same place that succeeded behind this one; empty for what runs now.',
    ADD COLUMN IF NOT EXISTS `first_ended_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'Corrected time of the earliest end that was reported, whatever was reported afterwards.',
    ADD COLUMN IF NOT EXISTS `other_ends` Array(String) COMMENT 'Ends that were reported beside the one of finished_at: time, type, source and cohort, in order of time.';

CREATE OR REPLACE VIEW {database}.all_deployment_revisions
AS SELECT * FROM {database}.deployment_revisions
WHERE (kafka_partition, kafka_offset) NOT IN (SELECT kafka_partition, kafka_offset FROM {database}.deployment_revisions_rehydrated)
UNION ALL
SELECT * FROM {database}.deployment_revisions_rehydrated FINAL
COMMENT 'All revisions of deployments of every tier: hot, cold, and what was brought back from the archive, each once';
