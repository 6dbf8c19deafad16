-- How much was uploaded in each hour, and how fast: the mean over the whole hour, of the running
-- hour over the part that has passed.
CREATE VIEW grafana.upload_speed_hourly AS
SELECT client, project, hour, files, bytes,
       files / extract(epoch FROM least(interval '1 hour', greatest(interval '1 second', now() - hour)))::float8
           AS files_per_second
FROM (
    SELECT c.name AS client, p.name AS project, r.hour, sum(r.files)::bigint AS files,
           sum(r.bytes)::bigint AS bytes
    FROM (
        SELECT delivery_id, result, hour, files, bytes FROM hourly_rates
        UNION ALL
        SELECT delivery_id, result, date_bin('1 hour', minute, 'epoch'), files, bytes
        FROM rate_deltas
    ) AS r
    JOIN deliveries AS d ON d.id = r.delivery_id
    JOIN clients AS c ON c.id = d.client_id
    JOIN projects AS p ON p.id = d.project_id
    WHERE r.result = 'uploaded'
    GROUP BY c.name, p.name, r.hour
    HAVING sum(r.files) <> 0
) AS k;
