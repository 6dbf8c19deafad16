-- Deliveries whose files wait and don't get stored, with the reason: nobody works on them, or
-- nothing was stored for a quarter of an hour though a file was due.
CREATE VIEW grafana.stalled_deliveries AS
SELECT c.name AS client, p.name AS project, d.name AS delivery,
       CASE
           WHEN NOT d.enabled THEN 'disabled: not in the configuration, or enabled is false there'
           WHEN NOT w.daemon_alive THEN 'sensordropd is not running'
           WHEN s.state IN ('paused', 'offline', 'blocked')
               THEN s.state || coalesce(': ' || s.reason, '')
           ELSE 'nothing was stored for ' || round(w.still_seconds / 60) || ' minutes'
       END AS reason,
       w.pending, w.oldest_pending_at, w.last_success_at
FROM (
    SELECT delivery_id, sum(files)::bigint AS pending FROM kept_counts
    WHERE state = 'pending' GROUP BY delivery_id HAVING sum(files) > 0
) AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
LEFT JOIN delivery_status AS s ON s.delivery_id = d.id
CROSS JOIN LATERAL (
    SELECT k.pending, o.oldest_pending_at, r.last_success_at,
           extract(epoch FROM now() - greatest(o.oldest_pending_at, r.last_success_at))
               AS still_seconds,
           EXISTS (SELECT 1 FROM daemons AS b
                   WHERE b.ended_at IS NULL AND b.heartbeat_at > now() - interval '60 seconds'
                     AND (d.shared OR b.station_id = d.station_id)) AS daemon_alive
    FROM (
        -- Ready and claimed files are found by the index; of those that wait for a retry the next
        -- ten thousand are looked at, which is nearly always all of them.
        SELECT f.enrolled_at AS oldest_pending_at
        FROM (
            (SELECT upload_id FROM upload_queue
             WHERE delivery_id = d.id AND next_at = 'epoch' ORDER BY upload_id LIMIT 1)
            UNION ALL
            (SELECT upload_id FROM upload_queue
             WHERE delivery_id = d.id AND next_at = '-infinity' ORDER BY upload_id LIMIT 1)
            UNION ALL
            (SELECT upload_id FROM upload_queue
             WHERE delivery_id = d.id AND next_at = 'infinity' ORDER BY upload_id LIMIT 1)
            UNION ALL
            (SELECT min(upload_id) FROM (
                SELECT upload_id FROM upload_queue
                WHERE delivery_id = d.id AND next_at > 'epoch' AND next_at < 'infinity'
                ORDER BY next_at LIMIT 10000) AS retried)
        ) AS q
        JOIN file_uploads AS f ON f.id = q.upload_id
        ORDER BY q.upload_id LIMIT 1
    ) AS o
    CROSS JOIN LATERAL (
        SELECT max(u.last_at) AS last_success_at
        FROM (
            (SELECT last_at FROM hourly_rates
             WHERE delivery_id = d.id AND result = 'uploaded' ORDER BY hour DESC LIMIT 1)
            UNION ALL
            (SELECT last_at FROM hourly_rates
             WHERE delivery_id = d.id AND result = 'skipped' ORDER BY hour DESC LIMIT 1)
            UNION ALL
            SELECT last_at FROM rate_deltas
            WHERE delivery_id = d.id AND result IN ('uploaded', 'skipped') AND files > 0
        ) AS u
    ) AS r
) AS w
WHERE d.retired_at IS NULL
  AND (NOT d.enabled OR NOT w.daemon_alive OR s.state IN ('paused', 'offline', 'blocked')
       OR w.still_seconds > 900);
