-- How much was uploaded in each hour, and how fast: the mean over the whole hour, of the running
-- hour over the part that has passed.
CREATE VIEW grafana.upload_speed_hourly AS
SELECT c.name AS client, p.name AS project, k.hour, k.files, k.bytes,
       k.files / least(3600, greatest(
           1, extract(epoch FROM now())::float8 - extract(epoch FROM k.hour)::float8))
           AS files_per_second
FROM (
    SELECT d.project_id, r.hour, sum(r.files)::bigint AS files, sum(r.bytes)::bigint AS bytes
    FROM (
        SELECT delivery_id, result, hour, files, bytes FROM hourly_rates
        UNION ALL
        SELECT delivery_id, result, date_bin('1 hour', minute, 'epoch'), files, bytes
        FROM rate_deltas
    ) AS r
    JOIN deliveries AS d ON d.id = r.delivery_id
    WHERE r.result = 'uploaded'
    GROUP BY d.project_id, r.hour
) AS k
JOIN projects AS p ON p.id = k.project_id
JOIN clients AS c ON c.id = p.client_id
WHERE k.files <> 0;
