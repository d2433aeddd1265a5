CREATE OR REPLACE VIEW {database}.explained_alerts
AS SELECT
    f.region AS region,
    if(p.root_deployment_id != '', p.root_deployment_id, f.deployment_id) AS root,
    max(f.said.2) AS probability,
    arraySort(groupUniqArrayIf(f.signal_id, f.said.2 > 0)) AS signals
FROM
(
    SELECT region, signal_id, deployment_id, argMax((rank, probability), kafka_offset) AS said
    FROM {database}.findings
    WHERE rule = 'incident_correlation' AND kafka_timestamp <= {as_of:DateTime64(6, 'UTC')}
        AND deployment_id != '' AND severity IN ('critical', 'error')
        AND occurred_at >= {since:DateTime64(6, 'UTC')}
    GROUP BY region, signal_id, deployment_id
) AS f
LEFT JOIN {database}.parts_known(as_of = {as_of:DateTime64(6, 'UTC')}) AS p
    ON p.region = f.region AND p.deployment_id = f.deployment_id
WHERE f.said.1 > 0
GROUP BY region, root
COMMENT 'The largest probability with which a critical or error alert since a time is explained by each deployment or a part of it, as known at as_of, and those alerts'
