-- How every session stands. A running one's speed is that of the last minutes and its eta is when
-- it ends at that speed; an ended one's speed is its mean. eta knows no timetable of limits:
-- `sensordrop status` does.
CREATE VIEW grafana.session_progress AS
SELECT c.name AS client, p.name AS project, k.session_id AS session, d.name AS delivery,
       k.state::text AS state, k.total, k.uploaded, k.skipped, k.failed, k.bytes,
       k.files_per_second,
       CASE WHEN k.seconds_left < 366 * 86400
            THEN now() + make_interval(secs => k.seconds_left) END AS eta
FROM (
    SELECT id AS session_id, delivery_id, state, files_total AS total, files_uploaded AS uploaded,
           files_skipped AS skipped, files_failed AS failed, bytes_total AS bytes,
           ((files_uploaded + files_skipped)
            / greatest(1, extract(epoch FROM ended_at - started_at)))::float8 AS files_per_second,
           NULL::float8 AS seconds_left
    FROM sync_sessions WHERE state = 'ended'
    UNION ALL
    SELECT session_id, delivery_id, state, total, uploaded, skipped, failed, bytes,
           files_per_second,
           CASE WHEN files_left = 0 THEN 0
                WHEN bytes_left > 0 THEN bytes_left / nullif(bytes_per_second, 0)
                ELSE files_left / nullif(files_per_second, 0) END
    FROM running_sessions
) AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id;
