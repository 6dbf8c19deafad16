-- Fills a ledger with files that were stored long ago, for measuring what its size costs.
-- Statements are separated by lines of dashes; sweeps.py fills the values in.

-- 300 sensors of the delivery's project.
INSERT INTO sensors (project_id, serial)
SELECT project_id, 'seed' || n FROM deliveries, generate_series(1, 300) AS n
WHERE deliveries.id = %(delivery_id)s
ON CONFLICT DO NOTHING
----
-- One session that they all came with.
INSERT INTO sync_sessions (delivery_id, state, started_by, ended_at, files_total, files_uploaded)
VALUES (%(delivery_id)s, 'ended', 'bench', now(), %(rows)s, %(rows)s)
----
-- The files, stored and current, spread over the sensors.
INSERT INTO file_uploads (delivery_id, destination_id, session_id, sensor_id, kind, state,
    claim_number, size_bytes, mtime_ns, ctime_ns, finished_at, path, path_bytes, path_digest,
    object_key, sha256, etag, store_check)
SELECT d.id, d.destination_id, s.id, sensor.id, 'audio', 'uploaded', 1, 65536,
    1756684800000000000 + n, 1756684800000000000 + n, now(), made.path, made.path::bytea,
    substring(sha256(made.path::bytea) FOR 16), 'C1/' || made.path, sha256(int8send(n)),
    md5(n::text), 'content-md5'
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
CROSS JOIN LATERAL (SELECT 'seed' || (1 + n %% 300) || '/20240901_' || n || '.WAV' AS path) AS made
JOIN deliveries AS d ON d.id = %(delivery_id)s
JOIN sync_sessions AS s ON s.delivery_id = d.id AND s.started_by = 'bench'
JOIN sensors AS sensor ON sensor.project_id = d.project_id
    AND sensor.serial = 'seed' || (1 + n %% 300)
----
-- Their counts, as the triggers would have kept them.
INSERT INTO file_counts (delivery_id, sensor_id, kind, state, files, bytes)
SELECT delivery_id, sensor_id, kind, state::text, count(*), sum(size_bytes)
FROM file_uploads GROUP BY delivery_id, sensor_id, kind, state
