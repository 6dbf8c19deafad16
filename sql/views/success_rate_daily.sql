-- How many files were uploaded and how many were quarantined on each day (UTC). What happened
-- stays: a file that was quarantined on Monday and uploaded on Tuesday counts on both days.
CREATE VIEW grafana.success_rate_daily AS
SELECT c.name AS client, p.name AS project, k.day, k.uploaded, k.failed,
       k.uploaded::float8 / nullif(k.uploaded + k.failed, 0) AS rate
FROM (
    SELECT d.project_id, (r.at AT TIME ZONE 'UTC')::date AS day,
           coalesce(sum(r.files) FILTER (WHERE r.result = 'uploaded'), 0)::bigint AS uploaded,
           coalesce(sum(r.files) FILTER (WHERE r.result = 'failed'), 0)::bigint AS failed
    FROM (
        SELECT delivery_id, result, hour AS at, files FROM hourly_rates
        UNION ALL
        SELECT delivery_id, result, minute, files FROM rate_deltas
    ) AS r
    JOIN deliveries AS d ON d.id = r.delivery_id
    WHERE r.result IN ('uploaded', 'failed')
    GROUP BY d.project_id, (r.at AT TIME ZONE 'UTC')::date
) AS k
JOIN projects AS p ON p.id = k.project_id
JOIN clients AS c ON c.id = p.client_id
WHERE k.uploaded + k.failed > 0;
