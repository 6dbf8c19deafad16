-- What each sensor delivered in a cycle: how much, from which day to which, how much of it is
-- quarantined, and when something of it last went on the books.
CREATE VIEW grafana.sensor_coverage AS
SELECT c.name AS client, p.name AS project, y.name AS cycle, e.serial AS sensor, k.files, k.bytes,
       k.first_file, k.last_file, k.failed, k.last_seen
FROM (
    -- Added up by numbers, and named afterwards: there are many sensors.
    SELECT d.cycle_id, u.sensor_id, sum(u.files)::bigint AS files, sum(u.bytes)::bigint AS bytes,
           min(u.first_day) AS first_file, max(u.last_day) AS last_file,
           sum(u.failed)::bigint AS failed, max(u.enrolled_at) AS last_seen
    FROM (
        SELECT delivery_id, sensor_id, files, bytes, failed, first_day, last_day, enrolled_at
        FROM sensor_sums
        UNION ALL
        SELECT delivery_id, sensor_id, files, bytes, failed,
               CASE WHEN files > 0 THEN captured_on END, CASE WHEN files > 0 THEN captured_on END,
               enrolled_at
        FROM coverage_deltas
    ) AS u
    JOIN deliveries AS d ON d.id = u.delivery_id
    GROUP BY d.cycle_id, u.sensor_id
) AS k
JOIN cycles AS y ON y.id = k.cycle_id
JOIN projects AS p ON p.id = y.project_id
JOIN clients AS c ON c.id = p.client_id
JOIN sensors AS e ON e.id = k.sensor_id
WHERE k.files <> 0;
