CREATE OR REPLACE VIEW {database}.broken_ticket_links
AS WITH tickets AS
    (
        SELECT change_ticket AS ticket, groupUniqArrayIf(deployment_id, deployment_id != '') AS named,
            argMax(ticket_state, corrected_at) AS last_state
        FROM {database}.approvals
        WHERE change_ticket != '' AND approval_type NOT IN ('registered', 'permit_issued', 'permit_used')
        GROUP BY ticket
    )
SELECT
    d.deployment_id AS deployment_id, d.region AS region, d.service AS service, d.counted_at AS at,
    d.change_ticket AS ticket,
    multiIf(d.change_ticket = '', 'no_ticket',
        t.ticket = '', 'ticket_unknown',
        notEmpty(t.named) AND NOT has(t.named, d.deployment_id), 'ticket_names_other_deployment',
        '') AS reason
FROM {database}.deployments_known(as_of = '2299-12-31 00:00:00') AS d
LEFT JOIN tickets AS t ON t.ticket = d.change_ticket
WHERE d.environment = {environment:String} AND d.counted_at >= {since:DateTime64(6, 'UTC')} AND d.counted_at < {until:DateTime64(6, 'UTC')}
    AND d.state NOT IN ('voided', 'cancelled', 'registered') AND reason != ''
    AND d.deployment_id IN (SELECT deployment_id FROM {database}.begun_deployments(
        since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}))
    AND d.deployment_id NOT IN (SELECT deployment_id FROM {database}.deployment_parts)
UNION ALL
SELECT a.deployment_id, a.region, a.service, a.at, a.ticket, 'deployment_unknown'
FROM
(
    SELECT deployment_id, region, service, change_ticket AS ticket, max(corrected_at) AS at
    FROM {database}.approvals
    WHERE change_ticket != '' AND deployment_id != '' AND environment = {environment:String}
        AND corrected_at >= {since:DateTime64(6, 'UTC')} AND corrected_at < {until:DateTime64(6, 'UTC')}
    GROUP BY deployment_id, region, service, ticket
) AS a
WHERE a.deployment_id NOT IN (SELECT deployment_id FROM {database}.deployment_revisions)
COMMENT 'Links between deployments and change tickets that do not hold both ways: no ticket, a ticket that only whoever deploys named, a ticket that names other deployments, a ticket that names a deployment nobody reported';
