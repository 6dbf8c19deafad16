-- The files that are quarantined now, with the failure that did it: of each delivery those among
-- its newest 50 quarantinings, so that none hides the others.
CREATE VIEW grafana.recent_failures AS
WITH places AS MATERIALIZED (
    -- Named before there are many rows.
    SELECT c.name AS client, p.name AS project, d.name AS delivery, d.id AS delivery_id
    FROM deliveries AS d
    JOIN clients AS c ON c.id = d.client_id
    JOIN projects AS p ON p.id = d.project_id
)
SELECT d.client, d.project, d.delivery, e.serial AS sensor, q.path, q.error_class,
       q.message AS error, q.attempts, q.failed_at
FROM places AS d
CROSS JOIN LATERAL (
    -- The files are looked up within each delivery: outside, what was found would be kept for a
    -- second look at the same file, which never comes.
    SELECT DISTINCT ON (n.upload_id) f.sensor_id, f.path, n.error_class, n.message, n.attempts,
           n.failed_at
    FROM (
        SELECT id, upload_id, error_class, message, attempts, failed_at
        FROM upload_failures WHERE delivery_id = d.delivery_id AND final
        ORDER BY id DESC LIMIT 50
    ) AS n
    JOIN file_uploads AS f ON f.id = n.upload_id AND f.state = 'failed'
    ORDER BY n.upload_id, n.id DESC
) AS q
JOIN sensors AS e ON e.id = q.sensor_id;
