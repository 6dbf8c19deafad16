-- How every delivery stands: what is stored and what is not, what is in the way, when its folder
-- was last listed completely. `state` is that of `sensordrop status`, or retired: the delivery goes
-- elsewhere now, and what it stored before stays where it is. Retired ones that stored nothing are
-- left out. `files_per_second` and `eta` are those of a running session.
CREATE VIEW grafana.delivery_progress AS
SELECT c.name AS client, p.name AS project, y.name AS cycle, d.name AS delivery, t.name AS station,
       x.bucket_name AS bucket,
       CASE WHEN d.retired_at IS NOT NULL THEN 'retired'
            WHEN NOT d.enabled THEN 'disabled'
            ELSE coalesce(s.state, 'offline') END AS state,
       CASE WHEN d.retired_at IS NULL AND d.enabled THEN s.reason END AS reason,
       d.retired_at IS NULL AND d.enabled AND EXISTS (
           SELECT 1 FROM daemons AS b
           WHERE b.ended_at IS NULL AND b.heartbeat_at > now() - interval '60 seconds'
             AND (d.shared OR b.station_id = d.station_id)) AS daemon_alive,
       coalesce(k.stored, 0) AS stored, coalesce(k.stored_bytes, 0) AS stored_bytes,
       coalesce(k.waiting, 0) AS waiting, coalesce(k.waiting_bytes, 0) AS waiting_bytes,
       CASE WHEN d.retired_at IS NULL THEN coalesce(s.settling, 0) ELSE 0 END AS settling,
       coalesce(k.failed, 0) AS failed, coalesce(k.failed_bytes, 0) AS failed_bytes,
       (SELECT count(*) FROM object_checks AS o
        WHERE o.delivery_id = d.id AND o.result <> 'same') AS mismatched,
       u.last_success_at, s.last_complete_sweep_at,
       CASE WHEN NOT s.last_sweep_complete
            THEN coalesce(s.last_sweep_problem, 'something could not be read')
            END AS last_sweep_problem,
       r.files_per_second,
       now() + make_interval(secs => CASE
           WHEN r.files_left = 0 THEN 0
           WHEN r.bytes_left > 0
               THEN nullif(least(r.bytes_left / nullif(r.bytes_per_second, 0), 366 * 86400), 366 * 86400)
           ELSE nullif(least(r.files_left / nullif(r.files_per_second, 0), 366 * 86400), 366 * 86400)
       END) AS eta
FROM deliveries AS d
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN cycles AS y ON y.id = d.cycle_id
JOIN destinations AS x ON x.id = d.destination_id
LEFT JOIN stations AS t ON t.id = d.station_id
LEFT JOIN delivery_status AS s ON s.delivery_id = d.id
LEFT JOIN running_sessions AS r ON r.delivery_id = d.id
LEFT JOIN (
    SELECT delivery_id,
           sum(files) FILTER (WHERE state IN ('uploaded', 'skipped'))::bigint AS stored,
           sum(bytes) FILTER (WHERE state IN ('uploaded', 'skipped'))::bigint AS stored_bytes,
           sum(files) FILTER (WHERE state = 'pending')::bigint AS waiting,
           sum(bytes) FILTER (WHERE state = 'pending')::bigint AS waiting_bytes,
           sum(files) FILTER (WHERE state = 'failed')::bigint AS failed,
           sum(bytes) FILTER (WHERE state = 'failed')::bigint AS failed_bytes
    FROM kept_counts GROUP BY delivery_id
) AS k ON k.delivery_id = d.id
LEFT JOIN (
    SELECT delivery_id, max(last_at) AS last_at
    FROM rate_deltas WHERE result IN ('uploaded', 'skipped') AND files > 0 GROUP BY delivery_id
) AS v ON v.delivery_id = d.id
CROSS JOIN LATERAL (
    SELECT greatest(v.last_at, max(l.last_at)) AS last_success_at
    FROM (VALUES ('uploaded'::upload_state), ('skipped')) AS good (result)
    CROSS JOIN LATERAL (
        SELECT last_at FROM hourly_rates
        WHERE delivery_id = d.id AND result = good.result ORDER BY hour DESC LIMIT 1
    ) AS l
) AS u
WHERE d.retired_at IS NULL OR k.stored > 0;
