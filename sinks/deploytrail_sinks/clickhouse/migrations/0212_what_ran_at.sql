CREATE OR REPLACE VIEW {database}.ran_at
AS SELECT
    region, environment, service, deployment_id, part_of, version, deployer, state, began AS started_at, heard_until, until,
    if(began + toIntervalMillisecond(began_width) <= {at:DateTime64(6, 'UTC')}
        AND (heard_until IS NULL OR {at:DateTime64(6, 'UTC')} < heard_until - toIntervalMillisecond(end_width)),
        'certain', 'possible') AS timing
FROM
(
    SELECT
        d.region AS region,
        d.environment AS environment,
        d.service AS service,
        d.deployment_id AS deployment_id,
        d.part_of AS part_of,
        d.version AS version,
        d.deployer AS deployer,
        d.state AS state,
        assumeNotNull(d.started_at) AS began,
        coalesce(d.started_at_uncertainty_ms, 0) AS began_width,
        multiIf(
            d.state = 'lost', 0,
            d.state = 'rolled_back' AND r.ended.1 IS NOT NULL, coalesce(r.ended.2, 0),
            coalesce(d.finished_at_uncertainty_ms, 0)) AS end_width,
        multiIf(
            d.state IN ('lost', 'superseded'), d.last_event_at,
            d.state = 'rolled_back' AND r.ended.1 IS NOT NULL, r.ended.1,
            d.finished_at) AS heard_until,
        multiIf(
            d.state = 'lost', if(r.lost_at > toDateTime64(0, 6, 'UTC'), r.lost_at, d.last_event_at),
            d.state = 'rolled_back' AND r.ended.1 IS NOT NULL, r.ended.1,
            d.finished_at) AS until
    FROM
    (
        SELECT * FROM {database}.deployments
        WHERE started_at IS NOT NULL AND state NOT IN ('voided', 'unknown')
            AND started_at - toIntervalMillisecond(coalesce(started_at_uncertainty_ms, 0)) <= {at:DateTime64(6, 'UTC')}
    ) AS d
    LEFT JOIN
    (
        SELECT
            region,
            deployment_id,
            argMaxIf((finished_at, finished_at_uncertainty_ms), revision, state IN ('succeeded', 'failed', 'cancelled')) AS ended,
            argMinIf(recorded_at, (-toUnixTimestamp64Micro(coalesce(last_event_at, recorded_at)), recorded_at), state = 'lost') AS lost_at
        FROM {database}.deployment_revisions
        WHERE deployment_id IN
        (
            SELECT deployment_id FROM {database}.deployments
            WHERE state IN ('lost', 'rolled_back')
                AND started_at - toIntervalMillisecond(coalesce(started_at_uncertainty_ms, 0)) <= {at:DateTime64(6, 'UTC')}
        )
        GROUP BY region, deployment_id
    ) AS r ON r.region = d.region AND r.deployment_id = d.deployment_id
)
WHERE until IS NULL OR until + toIntervalMillisecond(end_width) > {at:DateTime64(6, 'UTC')}
ORDER BY started_at, deployment_id
COMMENT 'Deployments that were being run at a time: certain from their start to their end, or as long as they were heard of; possible within the uncertainty of clocks, and, of what was lost or superseded, from when it was last heard of until it was given up or its place was taken';
