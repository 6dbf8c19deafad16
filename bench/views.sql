-- Fills a ledger with seasons of fifty projects, for measuring the views. Statements are separated by
-- lines of dashes; views.py fills the values in.

-- Five clients with ten projects each, all projects called alike, and four cycles of each.
INSERT INTO clients (name) SELECT 'client' || n FROM generate_series(1, 5) AS n;
INSERT INTO projects (client_id, name)
SELECT c.id, 'project' || n FROM clients AS c, generate_series(1, 10) AS n;
INSERT INTO cycles (project_id, name)
SELECT p.id, 'C' || n FROM projects AS p, generate_series(1, 4) AS n;
INSERT INTO sensors (project_id, serial)
SELECT p.id, (950000 + n)::text FROM projects AS p, generate_series(1, 75) AS n;
INSERT INTO stations (name) SELECT 'station' || n FROM generate_series(1, 5) AS n;
INSERT INTO destinations (endpoint_url, bucket_name)
SELECT '', 'bucket' || p.id FROM projects AS p;
INSERT INTO deliveries (station_id, name, client_id, project_id, cycle_id, destination_id,
    s3_prefix, local_directory)
SELECT t.id, 'delivery' || y.id, p.client_id, p.id, y.id, x.id, y.name, '/drop/' || y.id
FROM cycles AS y
JOIN projects AS p ON p.id = y.project_id
JOIN destinations AS x ON x.bucket_name = 'bucket' || p.id
JOIN stations AS t ON t.name = 'station' || p.client_id;
INSERT INTO daemons (station_id, instance, version, pid)
SELECT id, gen_random_uuid(), 'bench', 1 FROM stations;
INSERT INTO delivery_status (delivery_id, state)
SELECT id, CASE id %% 40 WHEN 0 THEN 'blocked' ELSE 'watching' END FROM deliveries;
----
-- Twenty-five sessions of each delivery; in every tenth delivery the last one runs.
INSERT INTO sync_sessions (delivery_id, state, started_by, started_at, ended_at, files_total,
    files_uploaded, bytes_total, bytes_uploaded)
SELECT d.id, CASE WHEN running THEN 'open' ELSE 'ended' END::session_state, 'bench',
       at, CASE WHEN NOT running THEN at + interval '5 hours' END, %(each)s, %(each)s, 1, 1
FROM deliveries AS d, generate_series(1, 25) AS n,
LATERAL (SELECT now() - make_interval(days => 26 - n) AS at, n = 25 AND d.id %% 10 = 0 AS running)
----
-- The files of deliveries %(first)s to %(last)s: recordings of thirty days, some pictures, one in a
-- hundred superseded, one in a thousand quarantined; in running sessions some thousands wait.
INSERT INTO file_uploads (delivery_id, destination_id, session_id, sensor_id, kind, state,
    superseded_from, is_current, claim_number, size_bytes, mtime_ns, ctime_ns, enrolled_at,
    finished_at, path, path_bytes, path_digest, object_key, sha256, etag, store_check)
SELECT d.id, d.destination_id, s.id, e.id,
       CASE n %% 20 WHEN 0 THEN 'image' WHEN 1 THEN 'sidecar' ELSE 'audio' END::file_kind, k.state,
       CASE WHEN k.state = 'superseded' THEN 'uploaded' END::upload_state,
       k.state <> 'superseded', 1, 65536, 1756684800000000000, 1756684800000000000,
       now() - make_interval(days => 40),
       CASE WHEN k.state <> 'pending'
            THEN now() - make_interval(days => (n %% 10)::int, hours => (n / 10 %% 8)::int) END,
       made.path, made.path::bytea, substring(sha256(made.path::bytea) FOR 16),
       CASE WHEN k.state <> 'failed' THEN d.s3_prefix || '/' || made.path END,
       CASE WHEN k.state <> 'failed' THEN sha256(int8send(n)) END, md5(n::text), 'content-md5'
FROM deliveries AS d
CROSS JOIN generate_series(1, %(each)s::bigint) AS n
CROSS JOIN LATERAL (SELECT CASE
    WHEN d.id %% 10 = 0 AND n %% 16 = 7 THEN 'pending'
    WHEN n %% 1000 = 500 THEN 'failed' WHEN n %% 100 = 50 THEN 'superseded'
    WHEN n %% 50 = 25 THEN 'skipped' ELSE 'uploaded' END::upload_state AS state) AS k
CROSS JOIN LATERAL (SELECT 950001 + n %% 75 || '/202509' || lpad((1 + n / 75 %% 30)::text, 2, '0')
    || '_' || lpad((n / 2250 %% 24)::text, 2, '0') || '0000_' || n || '.WAV' AS path) AS made
JOIN sensors AS e ON e.project_id = d.project_id AND e.serial = (950001 + n %% 75)::text
JOIN LATERAL (SELECT max(id) AS id FROM sync_sessions WHERE delivery_id = d.id) AS s ON true
WHERE d.id BETWEEN %(first)s AND %(last)s
----
-- What waits is queued, a little of it claimed, and each quarantined file has its failure.
INSERT INTO upload_queue (upload_id, delivery_id, next_at, claimed_by, claim_number)
SELECT f.id, f.delivery_id,
       CASE WHEN f.place <= 32 THEN 'infinity'::timestamptz
            WHEN f.place %% 10 = 0 THEN now() + interval '1 hour' ELSE 'epoch' END,
       CASE WHEN f.place <= 32 THEN 1 END, 1
FROM (SELECT id, delivery_id, row_number() OVER (PARTITION BY delivery_id ORDER BY id) AS place
      FROM file_uploads WHERE state = 'pending') AS f;
INSERT INTO upload_failures (upload_id, delivery_id, failed_at, attempts, scope, error_class,
    message, final)
SELECT id, delivery_id, finished_at, 4, 'file', 'unreadable', 'it can''t be read', true
FROM file_uploads WHERE state = 'failed' ORDER BY id
----
-- The counts, as the triggers would have kept them.
INSERT INTO file_counts (delivery_id, sensor_id, kind, state, files, bytes)
SELECT delivery_id, sensor_id, kind, state::text, count(*), sum(size_bytes)
FROM file_uploads GROUP BY delivery_id, sensor_id, kind, state;
INSERT INTO session_counts (session_id, state, files, bytes)
SELECT session_id, state::text, count(*), sum(size_bytes)
FROM file_uploads GROUP BY session_id, state;
INSERT INTO sensor_days (delivery_id, sensor_id, captured_on, files, bytes, failed)
SELECT delivery_id, sensor_id, captured_day(path, mtime_ns), count(*), sum(size_bytes),
       count(*) FILTER (WHERE state = 'failed')
FROM file_uploads WHERE state <> 'superseded' GROUP BY 1, 2, 3;
INSERT INTO sensor_sums (delivery_id, sensor_id, files, bytes, failed, first_day, last_day,
    enrolled_at)
SELECT delivery_id, sensor_id, sum(files), sum(bytes), sum(failed), min(captured_on),
       max(captured_on), now()
FROM sensor_days GROUP BY 1, 2;
INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
SELECT delivery_id, CASE state WHEN 'superseded' THEN 'uploaded' ELSE state END,
       date_bin('1 minute', finished_at, 'epoch'), count(*), sum(size_bytes), max(finished_at)
FROM file_uploads WHERE state <> 'pending' GROUP BY 1, 2, 3
