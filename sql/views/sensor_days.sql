-- What each sensor recorded on each day: the heatmap of a season. A large table: ask for a project.
CREATE VIEW grafana.sensor_days AS
SELECT c.name AS client, p.name AS project, y.name AS cycle, e.serial AS sensor,
       u.captured_on AS day, sum(u.files)::bigint AS files, sum(u.bytes)::bigint AS bytes,
       sum(u.failed)::bigint AS failed
FROM deliveries AS d
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN cycles AS y ON y.id = d.cycle_id
JOIN (
    SELECT delivery_id, sensor_id, captured_on, files, bytes, failed FROM sensor_days
    UNION ALL
    SELECT delivery_id, sensor_id, captured_on, files, bytes, failed FROM coverage_deltas
) AS u ON u.delivery_id = d.id
JOIN sensors AS e ON e.id = u.sensor_id
GROUP BY c.name, p.name, y.name, e.serial, u.captured_on
HAVING sum(u.files) <> 0;
