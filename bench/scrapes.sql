-- Fills a ledger with a thousand deliveries of files, some of them waiting, for measuring what it
-- costs to look at it. Statements are separated by lines of dashes; scrapes.py fills the values in.

-- Ten sensors.
INSERT INTO sensors (project_id, serial)
SELECT project_id, 'seed' || n FROM deliveries, generate_series(1, 10) AS n
WHERE deliveries.id = (SELECT min(id) FROM deliveries)
ON CONFLICT DO NOTHING
----
-- A running session for each delivery.
INSERT INTO sync_sessions (delivery_id, started_by) SELECT id, 'bench' FROM deliveries
----
-- The files, spread over deliveries and sensors: nine of ten are stored, the others wait.
INSERT INTO file_uploads (delivery_id, destination_id, session_id, sensor_id, kind, state,
    size_bytes, mtime_ns, ctime_ns, path, path_bytes, path_digest)
SELECT s.delivery_id, 1, s.id, sensor.id, 'audio',
    (CASE WHEN n %% 10 < 9 THEN 'uploaded' ELSE 'pending' END)::upload_state, 65536,
    1756684800000000000 + n, 1756684800000000000 + n, made.path, made.path::bytea,
    substring(sha256(made.path::bytea) FOR 16)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
CROSS JOIN LATERAL (SELECT 'seed' || n / 1000 || '/20240901_' || n || '.WAV' AS path) AS made
JOIN (SELECT delivery_id, id, row_number() OVER (ORDER BY delivery_id) - 1 AS place
      FROM sync_sessions) AS s ON s.place = n / 10 %% %(deliveries)s
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM sensors) AS sensor
    ON sensor.place = n / 10000 %% 10
----
-- What waits; a hundredth of it for a retry.
INSERT INTO upload_queue (upload_id, delivery_id, next_at)
SELECT id, delivery_id,
    CASE WHEN id %% 100 = 9 THEN now() + interval '1 hour' ELSE 'epoch' END
FROM file_uploads WHERE state = 'pending'
----
-- The counts, as the triggers would have kept them.
INSERT INTO file_counts (delivery_id, sensor_id, kind, state, files, bytes)
SELECT delivery_id, sensor_id, kind, state::text, count(*), sum(size_bytes)
FROM file_uploads GROUP BY delivery_id, sensor_id, kind, state
----
-- Those of the sessions.
INSERT INTO session_counts (session_id, state, files, bytes)
SELECT session_id, state::text, count(*), sum(size_bytes)
FROM file_uploads GROUP BY session_id, state
