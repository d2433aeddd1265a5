CREATE OR REPLACE VIEW {database}.standing_findings
AS SELECT * FROM {database}.findings
WHERE (kafka_partition, finding_id) NOT IN (SELECT kafka_partition, supersedes FROM {database}.findings WHERE supersedes != '')
    AND (kafka_partition, kafka_offset) IN (SELECT kafka_partition, min(kafka_offset) FROM {database}.findings GROUP BY kafka_partition, finding_id)
COMMENT 'Verdicts that no other one supersedes, each once: of a rule that judges several subjects of a deployment, one for each';
