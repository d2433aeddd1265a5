ALTER TABLE {database}.deployment_events ADD INDEX IF NOT EXISTS by_deployment deployment_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.deployment_events ADD INDEX IF NOT EXISTS by_config_key mapKeys(config_changes) TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.approvals ADD INDEX IF NOT EXISTS by_deployment deployment_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.findings ADD INDEX IF NOT EXISTS by_deployment deployment_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.findings ADD INDEX IF NOT EXISTS by_signal signal_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.signals ADD INDEX IF NOT EXISTS by_signal signal_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.signals ADD INDEX IF NOT EXISTS by_incident incident_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.deployment_revisions ADD INDEX IF NOT EXISTS by_rollback rollback_of TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE {database}.deployment_revisions ADD PROJECTION IF NOT EXISTS by_place
    (SELECT region, environment, service, started_at, finished_at, deployment_id ORDER BY region, environment, service, started_at)
