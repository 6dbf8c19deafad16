-- All SQL of the ledger, each query under its name with a sentence on what it is for.
-- Parameters are psycopg's %(name)s. Times are the database's own unless a name says otherwise.

-- name: hold_registrations
-- Lets one program register at a time, until this transaction ends: two that make the same new
-- delivery at once would be in each other's way, and the second one would fail.
SELECT pg_advisory_xact_lock(hashtext('sensordrop.register'));

-- name: upsert_station
-- Gives the station's id, and makes its row at the first start.
INSERT INTO stations (name) VALUES (%(name)s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING id;

-- name: insert_daemon
-- Registers a program that will claim work; its id owns the claims.
INSERT INTO daemons (station_id, instance, origin, version, pid)
VALUES (%(station_id)s, %(instance)s, %(origin)s, %(version)s, %(pid)s)
RETURNING id;

-- name: note_deliveries
-- Says which deliveries a program looks after.
UPDATE daemons SET delivery_ids = %(delivery_ids)s WHERE id = %(daemon_id)s;

-- name: predecessors
-- Finds the programs that ran on the same state directory and did not end in order.
SELECT id FROM daemons WHERE instance = %(instance)s AND ended_at IS NULL;

-- name: dead_daemons
-- Finds programs whose heartbeat has been silent for too long, wherever they ran. One that is still
-- to come was written by a clock that has been set back since: who lives writes a new one.
SELECT id FROM daemons
WHERE ended_at IS NULL
  AND (heartbeat_at < now() - make_interval(secs => %(dead_after_seconds)s)
       OR heartbeat_at > now() + make_interval(secs => %(dead_after_seconds)s));

-- name: end_daemons
-- Writes down that these programs are no more.
UPDATE daemons SET ended_at = now() WHERE id = ANY(%(daemon_ids)s) AND ended_at IS NULL;

-- name: forget_breakers
-- Programs that ended have no breakers any more.
DELETE FROM breakers WHERE daemon_id = ANY(%(daemon_ids)s);

-- name: heartbeat
-- Says that a program is alive; no row means that it was declared dead and must register anew.
UPDATE daemons SET heartbeat_at = now() WHERE id = %(daemon_id)s AND ended_at IS NULL
RETURNING id;

-- name: hold_daemon
-- Sees that a program is not declared dead, and keeps it from being so until this transaction
-- ends: claims made in a dead program's name would be nobody's to take back.
SELECT id FROM daemons WHERE id = %(daemon_id)s AND ended_at IS NULL FOR SHARE;

-- name: take_back_claims
-- Frees what ended programs had claimed. Their files are innocent unless a crash was shown, and
-- then those that were not in work.
UPDATE upload_queue
SET claimed_by = NULL, next_at = 'epoch',
    crashes = crashes + CASE WHEN %(in_work)s::bigint[] IS NULL
                                  OR upload_id = ANY(%(in_work)s::bigint[])
                             THEN %(charge)s ELSE 0 END
WHERE next_at = 'infinity' AND claimed_by = ANY(%(daemon_ids)s);

-- name: quarantine_crashers
-- Takes files out of the queue that were claimed alone and still brought the program down.
WITH crasher AS (
    DELETE FROM upload_queue
    WHERE crashes >= %(crash_limit)s AND claimed_by IS NULL
    RETURNING upload_id, delivery_id, claim_number, attempts, crashes
), story AS (
    INSERT INTO upload_failures
        (upload_id, delivery_id, attempts, scope, error_class, message, hint, final)
    SELECT upload_id, delivery_id, attempts, 'file', 'crash',
           'the program died ' || crashes || ' times while it worked on this file',
           'look at the file and at the crash report in the journal; sensordrop retry has it tried again', true
    FROM crasher
)
UPDATE file_uploads AS f
SET state = 'failed', finished_at = now(), crashes = c.crashes, attempts = c.attempts,
    claim_number = c.claim_number,
    reason = 'the program died ' || c.crashes || ' times while it worked on this file'
FROM crasher AS c
WHERE f.id = c.upload_id
RETURNING f.id;

-- name: upsert_client
-- Gives a client's id.
INSERT INTO clients (name) VALUES (%(client)s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING id;

-- name: upsert_project
-- Gives a project's id within its client.
INSERT INTO projects (client_id, name) VALUES (%(client_id)s, %(project)s)
ON CONFLICT (client_id, name) DO UPDATE SET name = excluded.name
RETURNING id;

-- name: upsert_cycle
-- Gives a cycle's id within its project.
INSERT INTO cycles (project_id, name) VALUES (%(project_id)s, %(cycle)s)
ON CONFLICT (project_id, name) DO UPDATE SET name = excluded.name
RETURNING id;

-- name: upsert_destination
-- Gives a destination's id.
INSERT INTO destinations (type, endpoint_url, bucket_name, aws_region)
VALUES ('s3', %(endpoint_url)s, %(bucket_name)s, %(aws_region)s)
ON CONFLICT (type, endpoint_url, bucket_name) DO UPDATE SET aws_region = excluded.aws_region
RETURNING id;

-- name: current_delivery
-- Finds the row of a delivery by its name (and its station, unless it is shared).
SELECT id, client_id, project_id, cycle_id, destination_id, s3_prefix, selection_digest
FROM deliveries
WHERE name = %(name)s AND retired_at IS NULL
  AND shared = %(shared)s AND (shared OR station_id = %(station_id)s)
FOR UPDATE;

-- name: insert_delivery
-- Makes the row of a delivery that is new, or that now goes elsewhere.
INSERT INTO deliveries
    (station_id, name, shared, client_id, project_id, cycle_id, destination_id, s3_prefix,
     local_directory, sensor_level, enabled, selection_digest)
VALUES
    (%(owner_id)s, %(name)s, %(shared)s, %(client_id)s, %(project_id)s, %(cycle_id)s,
     %(destination_id)s, %(s3_prefix)s, %(local_directory)s, %(sensor_level)s, %(enabled)s,
     %(selection_digest)s)
RETURNING id;

-- name: update_delivery
-- Notes the settings of a delivery that may change without making it another one.
UPDATE deliveries
SET local_directory = %(local_directory)s, sensor_level = %(sensor_level)s,
    enabled = %(enabled)s, selection_digest = %(selection_digest)s
WHERE id = %(delivery_id)s;

-- name: retire_delivery
-- Ends a delivery that was pointed elsewhere; its name is free for the new one.
UPDATE deliveries SET retired_at = now() WHERE id = %(delivery_id)s;

-- name: retire_pending
-- What a retired delivery had not stored yet goes on the books of its successor instead; what the
-- daemon that is named has in work may end where it began.
WITH dropped AS (
    DELETE FROM upload_queue
    WHERE delivery_id = %(delivery_id)s
      AND (%(working)s::bigint IS NULL OR claimed_by IS DISTINCT FROM %(working)s)
    RETURNING upload_id, claim_number
)
UPDATE file_uploads AS f
SET state = 'superseded', superseded_from = 'pending', is_current = false, finished_at = now(),
    claim_number = d.claim_number, reason = 'the delivery was pointed elsewhere'
FROM dropped AS d
WHERE f.id = d.upload_id;

-- name: retired_delivery
-- Holds a delivery that was pointed elsewhere, so that its end is written once.
SELECT id FROM deliveries WHERE id = %(delivery_id)s AND retired_at IS NOT NULL FOR UPDATE;

-- name: retired_at_work
-- Finds deliveries that were pointed elsewhere while files of theirs were in work, where no daemon
-- works on those any more.
SELECT d.id FROM deliveries AS d
JOIN sync_sessions AS s ON s.delivery_id = d.id AND s.state <> 'ended'
WHERE d.retired_at IS NOT NULL AND (d.shared OR d.station_id = %(station_id)s)
  AND NOT EXISTS (SELECT 1 FROM upload_queue AS q
                  WHERE q.delivery_id = d.id AND q.claimed_by IS NOT NULL)
FOR UPDATE OF d;

-- name: station_of_daemon
-- Finds the station that a program works for.
SELECT station_id FROM daemons WHERE id = %(daemon_id)s;

-- name: configuration_taken
-- Notes that a program took a configuration up while it ran.
UPDATE daemons
SET configured_at = now(), refused_at = NULL, refused_problem = NULL
WHERE id = %(daemon_id)s;

-- name: configuration_refused
-- Notes that a program was given a configuration that it can't use, and works on with the one before.
UPDATE daemons
SET refused_at = now(), refused_problem = %(problem)s
WHERE id = %(daemon_id)s;

-- name: configuration_in_force
-- Gives the configuration that the running daemon of a station works with: its own (no delivery), and
-- that of each of its deliveries.
WITH running AS (
    SELECT b.station_id, b.delivery_ids
    FROM daemons AS b JOIN stations AS s ON s.id = b.station_id
    WHERE s.name = %(station)s AND b.ended_at IS NULL AND b.origin = 'daemon'
      AND b.heartbeat_at > now() - interval '60 seconds'
    ORDER BY b.id DESC LIMIT 1
)
SELECT d.name, h.configuration
FROM running AS r
CROSS JOIN LATERAL (SELECT unnest(r.delivery_ids || NULL::bigint) AS id) AS x
LEFT JOIN deliveries AS d ON d.id = x.id
CROSS JOIN LATERAL (
    SELECT configuration FROM config_history AS c
    WHERE c.station_id = r.station_id AND c.delivery_id IS NOT DISTINCT FROM x.id
    ORDER BY c.id DESC LIMIT 1) AS h;

-- name: configurations_of
-- Tells since when the running daemons of a station work with their configuration, and what kept
-- them from taking another one.
SELECT s.name AS station, b.configured_at, b.refused_at, b.refused_problem
FROM daemons AS b JOIN stations AS s ON s.id = b.station_id
WHERE b.ended_at IS NULL AND b.origin = 'daemon'
  AND b.heartbeat_at > now() - interval '60 seconds'
  AND (%(station)s::text IS NULL OR s.name = %(station)s)
ORDER BY s.name, b.id;

-- name: forget_ignored
-- The rules of a delivery changed: its ignored entries are judged anew by the next sweep.
DELETE FROM ignored_files WHERE delivery_id = %(delivery_id)s;

-- name: disable_missing_deliveries
-- Deliveries of this station that are no longer configured are shown as disabled.
UPDATE deliveries SET enabled = false
WHERE station_id = %(station_id)s AND retired_at IS NULL AND enabled
  AND NOT (id = ANY(%(delivery_ids)s));

-- name: newest_configuration
-- Finds the digest of the configuration that was last in force.
SELECT digest FROM config_history
WHERE station_id = %(station_id)s AND delivery_id IS NOT DISTINCT FROM %(delivery_id)s
ORDER BY id DESC LIMIT 1;

-- name: insert_configuration
-- Keeps a configuration that is in force from now on.
INSERT INTO config_history (station_id, delivery_id, digest, configuration)
VALUES (%(station_id)s, %(delivery_id)s, %(digest)s, %(configuration)s);

-- name: publish_status
-- Says what a delivery is doing, for others to read.
INSERT INTO delivery_status (delivery_id, state, reason, settling)
VALUES (%(delivery_id)s, %(state)s, %(reason)s, %(settling)s)
ON CONFLICT (delivery_id) DO UPDATE
SET state = excluded.state, reason = excluded.reason, settling = excluded.settling,
    updated_at = now();

-- name: await_first_sweep
-- Says of deliveries that a daemon has just begun to look after that they are being swept: what the
-- one before it said of their folders holds no longer.
UPDATE delivery_status SET state = 'sweeping', reason = NULL, settling = 0, updated_at = now()
WHERE delivery_id = ANY(%(delivery_ids)s) AND state = 'watching';

-- name: publish_breakers
-- Says which breakers of a program opened, or were probed.
INSERT INTO breakers AS b
    (daemon_id, scope, target, error_class, problem, hint, failures, probe_at)
SELECT %(daemon_id)s, o.scope, o.target, o.error_class, o.problem, o.hint, o.failures,
       now() + make_interval(secs => o.probe_in_seconds)
FROM jsonb_to_recordset(%(states)s) AS o (
    scope text, target text, error_class text, problem text, hint text, failures integer,
    probe_in_seconds float8)
ON CONFLICT (daemon_id, scope, target) DO UPDATE
SET error_class = excluded.error_class, problem = excluded.problem, hint = excluded.hint,
    failures = excluded.failures, probe_at = excluded.probe_at, closed_at = NULL,
    opened_at = CASE WHEN b.closed_at IS NULL THEN b.opened_at ELSE excluded.opened_at END;

-- name: close_breakers
-- Says which breakers of a program closed.
UPDATE breakers AS b SET closed_at = now()
FROM jsonb_to_recordset(%(states)s) AS o (scope text, target text)
WHERE b.daemon_id = %(daemon_id)s AND b.scope = o.scope AND b.target = o.target
  AND b.closed_at IS NULL;

-- name: open_breakers
-- Finds what stops uploads right now, as living programs see it.
SELECT s.name AS station, b.scope, b.target, b.error_class, b.problem, b.hint, b.failures,
       b.opened_at, b.probe_at
FROM breakers AS b
JOIN daemons AS d ON d.id = b.daemon_id
JOIN stations AS s ON s.id = d.station_id
WHERE b.closed_at IS NULL AND d.ended_at IS NULL
  AND d.heartbeat_at > now() - interval '60 seconds'
  AND (%(station)s::text IS NULL OR s.name = %(station)s)
  AND (%(clients)s::text[] IS NULL OR b.scope = 'station' OR EXISTS (
       SELECT 1 FROM deliveries AS y
       JOIN clients AS c ON c.id = y.client_id
       JOIN projects AS p ON p.id = y.project_id
       JOIN destinations AS x ON x.id = y.destination_id
       WHERE c.name = ANY(%(clients)s) AND y.retired_at IS NULL
         AND b.target = CASE
             WHEN b.scope = 'project' THEN c.name || '/' || p.name || '/' || x.bucket_name
             WHEN x.endpoint_url <> '' THEN x.endpoint_url
             ELSE 's3 ' || coalesce(x.aws_region, '') END))
ORDER BY b.opened_at, b.scope, b.target;

-- name: publish_sweep
-- Says how the last sweep of a delivery ended.
INSERT INTO delivery_status
    (delivery_id, state, last_sweep_started_at, last_sweep_ended_at, last_sweep_complete,
     last_sweep_problem, last_sweep_files, last_complete_sweep_at)
VALUES
    (%(delivery_id)s, 'sweeping', %(started_at)s, now(), %(complete)s, %(problem)s, %(files)s,
     CASE WHEN %(complete)s THEN %(started_at)s END)
ON CONFLICT (delivery_id) DO UPDATE
SET last_sweep_started_at = excluded.last_sweep_started_at,
    last_sweep_ended_at = excluded.last_sweep_ended_at,
    last_sweep_complete = excluded.last_sweep_complete,
    last_sweep_problem = excluded.last_sweep_problem,
    last_sweep_files = excluded.last_sweep_files,
    last_complete_sweep_at = coalesce(
        excluded.last_complete_sweep_at, delivery_status.last_complete_sweep_at);

-- name: make_listing_tables
-- Makes this connection's private tables: what was seen, and what of it asks for work. The latter
-- is worked off by n, a range at a time.
CREATE TEMP TABLE IF NOT EXISTS listing (
    entry_type   text,
    size_bytes   bigint,
    mtime        numeric,
    ctime        numeric,
    path_bytes   bytea,
    special      text,
    mode         text DEFAULT 'sweep',
    seen_ago     float8,
    -- A damaged card's file may say the year 300,000: it is held to what a bigint can say.
    mtime_ns     bigint GENERATED ALWAYS AS (least(greatest(trunc(mtime * 1000000000),
                     -9223372036854775808), 9223372036854775807)::bigint) STORED,
    ctime_ns     bigint GENERATED ALWAYS AS (least(greatest(trunc(ctime * 1000000000),
                     -9223372036854775808), 9223372036854775807)::bigint) STORED,
    path_digest  bytea GENERATED ALWAYS AS (substring(sha256(path_bytes) FOR 16)) STORED
);
CREATE TEMP TABLE IF NOT EXISTS work (
    n            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verdict      text,
    upload_id    bigint,
    entry_type   text,
    size_bytes   bigint,
    mtime_ns     bigint,
    ctime_ns     bigint,
    path         text,
    path_bytes   bytea,
    path_digest  bytea,
    sensor       text,
    kind         file_kind,
    reason       text,
    unsettled    boolean,
    seen_ago     float8
);
TRUNCATE listing;
TRUNCATE work RESTART IDENTITY;

-- name: copy_listing
-- Takes in a listing as the finder gives it. The encoding lets any byte into path_bytes.
COPY listing (entry_type, size_bytes, mtime, ctime, path_bytes, special)
FROM STDIN (ENCODING 'SQL_ASCII');

-- name: copy_sightings
-- Takes in single sightings with the mode in which each was settled.
COPY listing (entry_type, size_bytes, mtime, ctime, path_bytes, special, mode, seen_ago)
FROM STDIN (ENCODING 'SQL_ASCII');

-- name: compare_listing
-- Finds what is new, changed, back, or different while pending; everything else is known.
-- Names are judged by the delivery's rules, each compiled to one regular expression.
-- For single sightings `one_by_one` is OFFSET 0: each is looked up in the index then. Where
-- statistics are old the planner would rather read all files of the delivery, which suits a
-- listing of them all.
INSERT INTO work
    (verdict, upload_id, entry_type, size_bytes, mtime_ns, ctime_ns, path, path_bytes,
     path_digest, sensor, kind, reason, unsettled, seen_ago)
SELECT verdict, upload_id, entry_type, size_bytes, mtime_ns, ctime_ns, path, path_bytes,
       path_digest,
       CASE WHEN cardinality(parts) > %(sensor_level)s AND %(sensor_level)s > 0
            THEN parts[%(sensor_level)s] ELSE '' END,
       coalesce((%(kinds)s::jsonb ->> extension)::file_kind, 'other'),
       CASE
           WHEN path COLLATE "C" ~ %(junk)s THEN 'junk'
           WHEN path COLLATE "C" ~ %(exclude)s THEN 'excluded'
           WHEN entry_type = 'l' THEN 'symbolic link'
           WHEN entry_type <> 'f' THEN 'not a regular file'
           WHEN NOT path COLLATE "C" ~ %(include)s THEN 'not included'
           WHEN NOT extension = ANY(%(extensions)s::text[]) THEN 'extension not listed'
       END,
       CASE mode
           WHEN 'sweep' THEN ctime_ns > %(edge_ns)s
                             OR (mtime_ns > %(edge_ns)s AND mtime_ns <= %(wall_ns)s)
           WHEN 'eager' THEN verdict NOT IN ('new', 'back')
           ELSE false
       END,
       seen_ago
FROM (
    SELECT CASE
               WHEN f.id IS NULL THEN 'new'
               WHEN f.state = 'vanished' THEN 'back'
               WHEN f.state = 'pending' THEN 'different'
               ELSE 'changed'
           END AS verdict,
           f.id AS upload_id, l.entry_type, l.size_bytes, l.mtime_ns, l.ctime_ns, l.path_bytes,
           l.path_digest, l.mode, l.seen_ago, named.path,
           string_to_array(named.path, '/') AS parts,
           lower(CASE WHEN strpos(substr(file.name, 2), '.') > 0
                      THEN split_part(file.name, '.', -1) ELSE '' END COLLATE "C") AS extension
    FROM listing AS l
    LEFT JOIN LATERAL (
        SELECT id, state, size_bytes, mtime_ns, ctime_ns FROM file_uploads
        WHERE delivery_id = %(delivery_id)s AND path_digest = l.path_digest AND is_current
        %(one_by_one)s
    ) AS f ON true
    LEFT JOIN LATERAL (
        SELECT path_digest, reason FROM ignored_files
        WHERE delivery_id = %(delivery_id)s AND path_digest = l.path_digest
        %(one_by_one)s
    ) AS i ON f.id IS NULL
              AND NOT (l.entry_type = 'f'
                       AND i.reason IN ('symbolic link', 'not a regular file'))
    CROSS JOIN LATERAL (
        SELECT CASE WHEN l.special <> '' THEN l.special
                    ELSE convert_from(l.path_bytes, 'UTF8') END AS path
        OFFSET 0
    ) AS named
    CROSS JOIN LATERAL (SELECT split_part(named.path, '/', -1) AS name OFFSET 0) AS file
    WHERE (f.id IS NULL AND i.path_digest IS NULL)
       OR (f.id IS NOT NULL
           AND (f.state = 'vanished' OR f.size_bytes <> l.size_bytes
                OR f.mtime_ns <> l.mtime_ns OR f.ctime_ns <> l.ctime_ns))
) AS seen;

-- name: work_totals
-- Counts what the comparison found; at last the new files that a watcher should have reported.
SELECT count(*) FILTER (WHERE reason IS NULL AND NOT unsettled AND verdict = 'new'),
       count(*) FILTER (WHERE reason IS NULL AND NOT unsettled AND verdict <> 'new'),
       count(*) FILTER (WHERE reason IS NOT NULL),
       count(*) FILTER (WHERE reason IS NULL AND unsettled),
       coalesce(max(n), 0),
       count(*) FILTER (WHERE reason IS NULL AND NOT unsettled AND verdict = 'new'
                        AND ctime_ns BETWEEN %(since_ns)s::bigint AND %(until_ns)s::bigint)
FROM work;

-- name: unsettled_work
-- Gives the files that must settle first, as many as the scout can watch.
SELECT path_bytes, size_bytes, mtime_ns, ctime_ns
FROM work WHERE reason IS NULL AND unsettled LIMIT %(most)s;

-- name: note_ignored
-- Keeps what is not uploaded, with the reason.
INSERT INTO ignored_files (delivery_id, path_digest, path, path_bytes, size_bytes, reason)
SELECT %(delivery_id)s, path_digest, path, path_bytes, size_bytes, reason
FROM work WHERE reason IS NOT NULL AND n BETWEEN %(first)s AND %(last)s
ON CONFLICT (delivery_id, path_digest) DO NOTHING;

-- name: open_session
-- Finds the delivery's running session and holds it open until this transaction ends.
SELECT id FROM sync_sessions
WHERE delivery_id = %(delivery_id)s AND state = 'open' FOR SHARE;

-- name: reopen_session
-- Takes back that the running session was being verified: something comes into it.
UPDATE sync_sessions SET state = 'open'
WHERE delivery_id = %(delivery_id)s AND state = 'verifying'
RETURNING id;

-- name: begin_session
-- Opens a session; nothing comes back if another program did so just now.
INSERT INTO sync_sessions (delivery_id, origin, started_by)
VALUES (%(delivery_id)s, %(origin)s, %(started_by)s)
ON CONFLICT (delivery_id) WHERE state <> 'ended' DO NOTHING
RETURNING id;

-- name: enroll_sensors
-- Makes the rows of sensors that were not known yet. Their names are made distinct first: there
-- are some hundreds of them, and twenty thousand files.
WITH named AS MATERIALIZED (
    SELECT DISTINCT sensor FROM work
    WHERE reason IS NULL AND NOT unsettled AND n BETWEEN %(first)s AND %(last)s
)
INSERT INTO sensors (project_id, serial)
SELECT d.project_id, w.sensor
FROM named AS w, deliveries AS d
WHERE d.id = %(delivery_id)s
  AND NOT EXISTS (SELECT 1 FROM sensors AS s
                  WHERE s.project_id = d.project_id AND s.serial = w.sensor)
ON CONFLICT (project_id, serial) DO NOTHING;

-- name: enroll_supersede
-- Takes the older version of a changed file off the current ones; its successor comes next. A
-- file that vanished in a session that has ended and now is back gets a successor too: an ended
-- session keeps the files that it counted.
UPDATE file_uploads AS f
SET is_current = false, superseded_from = f.state, state = 'superseded'
FROM work AS w
WHERE w.verdict IN ('changed', 'back') AND w.reason IS NULL AND NOT w.unsettled
  AND w.n BETWEEN %(first)s AND %(last)s
  AND f.id = w.upload_id AND f.is_current
  AND (f.state IN ('uploaded', 'skipped', 'failed')
       OR (f.state = 'vanished' AND f.session_id <> %(session_id)s));

-- name: enroll_new
-- Puts new files and new versions on the books and into the queue. What another program has
-- enrolled meanwhile stays as that one wrote it.
WITH enrolled AS (
    INSERT INTO file_uploads
        (delivery_id, destination_id, session_id, sensor_id, predecessor_id, kind, size_bytes,
         mtime_ns, ctime_ns, path, path_bytes, path_digest, seen_at)
    SELECT d.id, d.destination_id, %(session_id)s, s.id, w.upload_id, w.kind, w.size_bytes,
           w.mtime_ns, w.ctime_ns, w.path, w.path_bytes, w.path_digest,
           now() - make_interval(secs => w.seen_ago)
    FROM work AS w
    JOIN deliveries AS d ON d.id = %(delivery_id)s
    JOIN sensors AS s ON s.project_id = d.project_id AND s.serial = w.sensor
    WHERE w.verdict IN ('new', 'changed', 'back') AND w.reason IS NULL AND NOT w.unsettled
      AND w.n BETWEEN %(first)s AND %(last)s
    ORDER BY w.n
    ON CONFLICT (delivery_id, path_digest) WHERE is_current DO NOTHING
    RETURNING id
)
INSERT INTO upload_queue (upload_id, delivery_id)
SELECT id, %(delivery_id)s FROM enrolled;

-- name: enroll_back
-- Puts files that had vanished and are back into the queue again.
WITH back AS (
    UPDATE file_uploads AS f
    SET state = 'pending', session_id = %(session_id)s, size_bytes = w.size_bytes,
        mtime_ns = w.mtime_ns, ctime_ns = w.ctime_ns, finished_at = NULL, reason = NULL
    FROM work AS w
    WHERE w.verdict = 'back' AND w.reason IS NULL AND NOT w.unsettled
      AND w.n BETWEEN %(first)s AND %(last)s
      AND f.id = w.upload_id AND f.state = 'vanished'
    RETURNING f.id, f.claim_number
)
INSERT INTO upload_queue (upload_id, delivery_id, claim_number)
SELECT id, %(delivery_id)s, claim_number FROM back;

-- name: enroll_different
-- A file that was never stored and changed meanwhile is the same version, seen better. One that
-- is claimed is left alone: its attempt sees the change itself.
WITH waiting AS (
    UPDATE upload_queue AS q
    SET next_at = 'epoch', attempts = 0
    FROM work AS w
    WHERE w.verdict = 'different' AND w.reason IS NULL AND NOT w.unsettled
      AND w.n BETWEEN %(first)s AND %(last)s
      AND q.upload_id = w.upload_id AND q.claimed_by IS NULL
    RETURNING q.upload_id, w.size_bytes, w.mtime_ns, w.ctime_ns
)
UPDATE file_uploads AS f
SET size_bytes = q.size_bytes, mtime_ns = q.mtime_ns, ctime_ns = q.ctime_ns
FROM waiting AS q
WHERE f.id = q.upload_id;

-- name: enroll_unignore
-- An entry that was ignored and now is a file on the books is no longer ignored.
DELETE FROM ignored_files AS i
USING work AS w
WHERE w.reason IS NULL AND NOT w.unsettled
  AND w.n BETWEEN %(first)s AND %(last)s
  AND i.delivery_id = %(delivery_id)s AND i.path_digest = w.path_digest;

-- name: release_held
-- Lets files be tried again that were held, and that the listing has.
UPDATE upload_queue AS q
SET next_at = 'epoch'
FROM file_uploads AS f
WHERE q.delivery_id = %(delivery_id)s AND q.next_at = '9999-01-01 00:00+00'
  AND f.id = q.upload_id
  AND EXISTS (SELECT 1 FROM listing AS l WHERE l.path_digest = f.path_digest);

-- name: find_gone
-- Finds waiting files that a complete listing, begun after they went on the books, did not have.
-- A time to come was written by a clock that has been set back since: it says nothing, and each
-- file is looked at once more anyway.
-- Those that are held already are looked for only when somebody has confirmed that they are gone.
-- Those that somebody has in hand are found, too: they are left to him, and count as missing.
TRUNCATE work RESTART IDENTITY;
INSERT INTO work (verdict, upload_id, path_bytes)
SELECT CASE WHEN q.claimed_by IS NULL THEN 'gone' ELSE 'in hand' END, f.id, f.path_bytes
FROM upload_queue AS q
JOIN file_uploads AS f ON f.id = q.upload_id
WHERE q.delivery_id = %(delivery_id)s
  AND (%(confirmed)s OR q.next_at <> '9999-01-01 00:00+00')
  AND (f.enrolled_at < %(sweep_began)s OR f.enrolled_at > clock_timestamp())
  AND NOT EXISTS (SELECT 1 FROM listing AS l WHERE l.path_digest = f.path_digest);

-- name: gone_batch
-- Gives some of them, to be looked at once more on disk.
SELECT upload_id, path_bytes FROM work WHERE n BETWEEN %(first)s AND %(last)s;

-- name: there_after_all
-- Takes those off the list that were there when they were looked at once more.
UPDATE work SET verdict = 'there' WHERE upload_id = ANY(%(upload_ids)s);

-- name: count_gone
-- Tells how many are missing, how many more are while somebody has them in hand, of how many that wait,
-- and how many are held already. What waits is counted only where something is missing.
SELECT missing.files, missing.in_hand,
       CASE WHEN missing.files > 0 THEN
           (SELECT count(*) FROM upload_queue WHERE delivery_id = %(delivery_id)s) ELSE 0 END,
       (SELECT count(*) FROM upload_queue
        WHERE delivery_id = %(delivery_id)s AND next_at = '9999-01-01 00:00+00')
FROM (SELECT count(*) FILTER (WHERE verdict = 'gone') AS files,
             count(*) FILTER (WHERE verdict = 'in hand') AS in_hand
      FROM work) AS missing;

-- name: mark_vanished
-- Takes files off the queue that are gone from disk before they were stored.
WITH dropped AS (
    DELETE FROM upload_queue AS q USING work AS w
    WHERE w.verdict = 'gone' AND w.n BETWEEN %(first)s AND %(last)s
      AND q.upload_id = w.upload_id AND q.claimed_by IS NULL
    RETURNING q.upload_id, q.claim_number
)
UPDATE file_uploads AS f
SET state = 'vanished', finished_at = now(), claim_number = d.claim_number,
    reason = 'gone from disk before it was stored'
FROM dropped AS d
WHERE f.id = d.upload_id;

-- name: hold_gone
-- Holds missing files until somebody confirms that they are gone: nobody claims them meanwhile.
UPDATE upload_queue AS q SET next_at = '9999-01-01 00:00+00'
FROM work AS w
WHERE w.verdict = 'gone' AND w.n BETWEEN %(first)s AND %(last)s
  AND q.upload_id = w.upload_id AND q.claimed_by IS NULL;

-- name: known_roots
-- Gives the file system that each delivery's folder was last swept on, at a program's station.
SELECT delivery_id, filesystem FROM delivery_roots
WHERE delivery_id = ANY(%(delivery_ids)s)
  AND station_id = (SELECT station_id FROM daemons WHERE id = %(daemon_id)s);

-- name: remember_root
-- Notes on which file system a delivery's folder is.
INSERT INTO delivery_roots (delivery_id, station_id, filesystem)
SELECT %(delivery_id)s, station_id, %(filesystem)s FROM daemons WHERE id = %(daemon_id)s
ON CONFLICT (delivery_id, station_id) DO UPDATE
SET filesystem = excluded.filesystem, since = now();

-- name: database_now
-- Asks for the database's clock.
SELECT clock_timestamp();

-- name: claim
-- Leases due files of one delivery to this program: those that somebody wants now, then those that
-- are ready, in the order of enrolment, then retries.
WITH due AS (
    SELECT upload_id FROM upload_queue
    WHERE delivery_id = %(delivery_id)s AND next_at <= now() AND crashes < %(suspect_crashes)s
    ORDER BY next_at, upload_id
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE upload_queue AS q
    SET next_at = 'infinity', claimed_by = %(daemon_id)s, claim_number = q.claim_number + 1
    FROM due WHERE q.upload_id = due.upload_id
    RETURNING q.upload_id, q.claim_number, q.attempts, q.crashes
)
SELECT c.upload_id, f.delivery_id, f.path_bytes, f.path, f.size_bytes, f.mtime_ns, f.ctime_ns,
       c.claim_number, c.attempts, c.crashes,
       CASE WHEN p.superseded_from IN ('uploaded', 'skipped') THEN p.sha256 END,
       EXISTS (
           SELECT 1 FROM listed_objects AS l
           WHERE l.listing_id = n.id
             AND l.key_digest = substring(sha256(convert_to(
                     CASE d.s3_prefix WHEN '' THEN f.path ELSE d.s3_prefix || '/' || f.path END,
                     'UTF8')) FOR 16)),
       n.completed_at IS NULL
FROM claimed AS c
JOIN file_uploads AS f ON f.id = c.upload_id
JOIN deliveries AS d ON d.id = f.delivery_id
LEFT JOIN object_listings AS n
    ON n.destination_id = d.destination_id AND n.s3_prefix = d.s3_prefix
LEFT JOIN file_uploads AS p ON p.id = f.predecessor_id
ORDER BY c.upload_id;

-- name: claim_suspect
-- Leases one file that was in work in more than one crash, to be worked on alone.
WITH due AS (
    SELECT upload_id FROM upload_queue
    WHERE delivery_id = ANY(%(delivery_ids)s) AND next_at <= now()
      AND crashes >= %(suspect_crashes)s
    ORDER BY next_at, upload_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE upload_queue AS q
    SET next_at = 'infinity', claimed_by = %(daemon_id)s, claim_number = q.claim_number + 1
    FROM due WHERE q.upload_id = due.upload_id
    RETURNING q.upload_id, q.claim_number, q.attempts, q.crashes
)
SELECT c.upload_id, f.delivery_id, f.path_bytes, f.path, f.size_bytes, f.mtime_ns, f.ctime_ns,
       c.claim_number, c.attempts, c.crashes,
       CASE WHEN p.superseded_from IN ('uploaded', 'skipped') THEN p.sha256 END,
       EXISTS (
           SELECT 1 FROM listed_objects AS l
           WHERE l.listing_id = n.id
             AND l.key_digest = substring(sha256(convert_to(
                     CASE d.s3_prefix WHEN '' THEN f.path ELSE d.s3_prefix || '/' || f.path END,
                     'UTF8')) FOR 16)),
       n.completed_at IS NULL
FROM claimed AS c
JOIN file_uploads AS f ON f.id = c.upload_id
JOIN deliveries AS d ON d.id = f.delivery_id
LEFT JOIN object_listings AS n
    ON n.destination_id = d.destination_id AND n.s3_prefix = d.s3_prefix
LEFT JOIN file_uploads AS p ON p.id = f.predecessor_id;

-- name: release_unheld
-- Frees claims of a program that it does not know of: the answer to its COMMIT was lost.
UPDATE upload_queue AS q
SET claimed_by = NULL, next_at = 'epoch'
WHERE q.delivery_id = ANY(%(delivery_ids)s) AND q.next_at = 'infinity'
  AND q.claimed_by = %(daemon_id)s
  AND NOT EXISTS (
      SELECT 1 FROM unnest(%(upload_ids)s::bigint[], %(claim_numbers)s::bigint[])
          AS held (upload_id, claim_number)
      WHERE held.upload_id = q.upload_id AND held.claim_number = q.claim_number);

-- name: due_in_seconds
-- Says for each delivery in how many seconds its next file is due; less than nothing means now,
-- plus infinity that all of them are claimed.
SELECT d.id,
       extract(epoch FROM q.next_at)::float8 - extract(epoch FROM clock_timestamp())::float8
FROM unnest(%(delivery_ids)s::bigint[]) AS d(id)
CROSS JOIN LATERAL (
    SELECT next_at FROM upload_queue WHERE delivery_id = d.id
    ORDER BY next_at, upload_id LIMIT 1
) AS q;

-- name: bring_forward
-- Makes files due that wait longer than any wait lasts: they were put off by a clock that has been
-- set back since. What is held until somebody confirms that it is gone stays held.
UPDATE upload_queue AS q
SET next_at = now()
FROM unnest(%(delivery_ids)s::bigint[], %(longest_waits)s::float8[]) AS d(id, longest_seconds)
WHERE q.delivery_id = d.id
  AND q.next_at > now() + make_interval(secs => d.longest_seconds)
  AND q.next_at < '9999-01-01 00:00+00';

-- name: queued
-- Tells whether a delivery has any file that is not finished.
SELECT EXISTS (SELECT 1 FROM upload_queue WHERE delivery_id = %(delivery_id)s);

-- name: commit_stored
-- Writes down what was stored or found stored, where the claim still holds.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, state upload_state, object_key text, sha256 text,
        etag text, version_id text, checksum_sha256 text, store_check text, conflict boolean,
        reason text)
), fenced AS (
    DELETE FROM upload_queue AS q USING outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id, q.claim_number, q.attempts, q.crashes
)
UPDATE file_uploads AS f
SET state = o.state, finished_at = now(), object_key = o.object_key,
    sha256 = decode(o.sha256, 'hex'), etag = o.etag, version_id = o.version_id,
    checksum_sha256 = o.checksum_sha256, store_check = o.store_check, conflict = o.conflict,
    reason = o.reason, claim_number = q.claim_number, attempts = q.attempts,
    crashes = q.crashes
FROM outcome AS o JOIN fenced AS q ON q.upload_id = o.upload_id
WHERE f.id = o.upload_id
RETURNING f.id;

-- name: commit_quarantined
-- Puts files into quarantine, with the failure that did it.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, scope text, error_class text, message text,
        hint text, took_seconds float8)
), fenced AS (
    DELETE FROM upload_queue AS q USING outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id, q.delivery_id, q.claim_number, q.attempts, q.crashes
), story AS (
    INSERT INTO upload_failures
        (upload_id, delivery_id, attempts, scope, error_class, message, hint, final, begun_at)
    SELECT q.upload_id, q.delivery_id, q.attempts + 1, o.scope, o.error_class, o.message, o.hint,
           true, now() - make_interval(secs => o.took_seconds)
    FROM fenced AS q JOIN outcome AS o ON o.upload_id = q.upload_id
)
UPDATE file_uploads AS f
SET state = 'failed', finished_at = now(), reason = o.message, claim_number = q.claim_number,
    attempts = q.attempts + 1, crashes = q.crashes
FROM outcome AS o JOIN fenced AS q ON q.upload_id = o.upload_id
WHERE f.id = o.upload_id
RETURNING f.id;

-- name: commit_retries
-- Uses up one attempt of each file and says when the next one is due.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, wait_seconds float8, scope text,
        error_class text, message text, hint text, took_seconds float8)
), fenced AS (
    UPDATE upload_queue AS q
    SET claimed_by = NULL, attempts = q.attempts + 1,
        next_at = now() + make_interval(secs => o.wait_seconds)
    FROM outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id, q.delivery_id, q.attempts
)
INSERT INTO upload_failures
    (upload_id, delivery_id, attempts, scope, error_class, message, hint, final, begun_at)
SELECT q.upload_id, q.delivery_id, q.attempts, o.scope, o.error_class, o.message, o.hint, false,
       now() - make_interval(secs => o.took_seconds)
FROM fenced AS q JOIN outcome AS o ON o.upload_id = q.upload_id
RETURNING upload_id;

-- name: commit_not_to_blame
-- Gives claims back whose attempts failed by the trouble of others: told, and not charged.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, wait_seconds float8, scope text,
        error_class text, message text, hint text, took_seconds float8)
), fenced AS (
    UPDATE upload_queue AS q
    SET claimed_by = NULL,
        next_at = coalesce(now() + make_interval(secs => o.wait_seconds), 'epoch')
    FROM outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id, q.delivery_id, q.attempts
)
INSERT INTO upload_failures
    (upload_id, delivery_id, attempts, scope, error_class, message, hint, final, begun_at, charged)
SELECT q.upload_id, q.delivery_id, q.attempts, o.scope, o.error_class, o.message, o.hint, false,
       now() - make_interval(secs => o.took_seconds), false
FROM fenced AS q JOIN outcome AS o ON o.upload_id = q.upload_id
RETURNING upload_id;

-- name: forget_old_failures
-- Keeps the newest failures of each file, those that were charged and the others apart: a store
-- that is down for a week must not push a file's own story out, nor fill the ledger.
DELETE FROM upload_failures
WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY upload_id, charged ORDER BY id DESC) AS place
        FROM upload_failures
        WHERE upload_id = ANY(%(upload_ids)s) AND NOT final
    ) AS told
    WHERE place > %(kept)s);

-- name: commit_given_back
-- Gives claims back without charging the files anything.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, wait_seconds float8)
)
UPDATE upload_queue AS q
SET claimed_by = NULL,
    next_at = coalesce(now() + make_interval(secs => o.wait_seconds), 'epoch')
FROM outcome AS o
WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
  AND q.claimed_by = %(daemon_id)s
RETURNING q.upload_id;

-- name: commit_waits
-- Sends files that are still being written back to wait, as they were last seen.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        upload_id bigint, claim_number bigint, wait_seconds float8, size_bytes bigint,
        mtime_ns bigint, ctime_ns bigint)
), fenced AS (
    UPDATE upload_queue AS q
    SET claimed_by = NULL, next_at = now() + make_interval(secs => o.wait_seconds)
    FROM outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id, o.size_bytes, o.mtime_ns, o.ctime_ns
)
UPDATE file_uploads AS f
SET size_bytes = q.size_bytes, mtime_ns = q.mtime_ns, ctime_ns = q.ctime_ns
FROM fenced AS q
WHERE f.id = q.upload_id
RETURNING f.id;

-- name: take_off_same
-- Takes versions off the books whose bytes turned out to be those of their predecessors.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (upload_id bigint, claim_number bigint)
), fenced AS (
    DELETE FROM upload_queue AS q USING outcome AS o
    WHERE q.upload_id = o.upload_id AND q.claim_number = o.claim_number
      AND q.claimed_by = %(daemon_id)s
    RETURNING q.upload_id
)
DELETE FROM file_uploads AS f USING fenced AS q
WHERE f.id = q.upload_id
RETURNING f.id, f.predecessor_id, f.mtime_ns, f.ctime_ns;

-- name: restore_predecessors
-- Makes those predecessors current again, with the times that the file has now.
UPDATE file_uploads AS f
SET is_current = true, state = f.superseded_from, superseded_from = NULL,
    mtime_ns = o.mtime_ns, ctime_ns = o.ctime_ns
FROM jsonb_to_recordset(%(outcomes)s) AS o (
    predecessor_id bigint, mtime_ns bigint, ctime_ns bigint)
WHERE f.id = o.predecessor_id AND NOT f.is_current;

-- name: listing_age
-- Says how many seconds ago a delivery's prefix was last listed completely.
SELECT extract(epoch FROM now() - n.completed_at)::float8
FROM deliveries AS d
JOIN object_listings AS n
    ON n.destination_id = d.destination_id AND n.s3_prefix = d.s3_prefix
WHERE d.id = %(delivery_id)s AND n.completed_at IS NOT NULL;

-- name: begin_object_listing
-- Notes that a delivery's prefix is being listed. The time marks what this listing has seen; it
-- only rises, also where two programs list the same prefix.
INSERT INTO object_listings AS n (destination_id, s3_prefix, began_at)
SELECT destination_id, s3_prefix, clock_timestamp() FROM deliveries WHERE id = %(delivery_id)s
ON CONFLICT (destination_id, s3_prefix) DO UPDATE
SET began_at = greatest(n.began_at, excluded.began_at)
RETURNING id, began_at;

-- name: make_listed_table
-- Makes this connection's private table of the objects that are taken in at a time.
CREATE TEMP TABLE IF NOT EXISTS listed (key_digest bytea, size_bytes bigint, etag text);
TRUNCATE listed;

-- name: copy_listed
-- Takes in some thousand objects of a listing.
COPY listed (key_digest, size_bytes, etag) FROM STDIN;

-- name: merge_listed
-- Adds them to what is known below the prefix, or notes that they were seen again.
INSERT INTO listed_objects AS o (listing_id, key_digest, size_bytes, etag, seen_at)
SELECT DISTINCT ON (key_digest) %(listing_id)s, key_digest, size_bytes, etag,
       %(began_at)s::timestamptz
FROM listed ORDER BY key_digest
ON CONFLICT (listing_id, key_digest) DO UPDATE
SET size_bytes = excluded.size_bytes, etag = excluded.etag,
    seen_at = greatest(o.seen_at, excluded.seen_at);

-- name: forget_unlisted
-- Forgets objects that a complete listing did not have, a bounded number at a time.
DELETE FROM listed_objects
WHERE listing_id = %(listing_id)s
  AND key_digest = ANY(ARRAY(
      SELECT key_digest FROM listed_objects
      WHERE listing_id = %(listing_id)s AND seen_at < %(began_at)s LIMIT %(most)s));

-- name: end_object_listing
-- Notes that a listing was complete, and what it found.
UPDATE object_listings SET completed_at = clock_timestamp(), objects = %(objects)s
WHERE id = %(listing_id)s;

-- name: unaccounted
-- Gives the files that a listing has and the books have not, or have otherwise. Read after
-- compare_listing; nothing is enrolled.
SELECT path,
       CASE verdict
           WHEN 'new' THEN 'it is on disk and not on the books: not stored'
           WHEN 'back' THEN 'it had vanished and is on disk again: not stored'
           WHEN 'different' THEN 'it is waiting to be stored, and is on disk with other times or size'
           ELSE 'it changed on disk after it was stored'
       END,
       count(*) OVER ()
FROM work
WHERE reason IS NULL AND (%(sensor)s::text IS NULL OR sensor = %(sensor)s)
ORDER BY n LIMIT %(most)s;

-- name: deliveries_to_verify
-- Gives the deliveries of a station (or of all), or the one that a session is of.
SELECT d.id, d.name, t.name, d.retired_at IS NOT NULL, x.endpoint_url, x.bucket_name, d.s3_prefix,
       d.local_directory, s.last_sweep_ended_at IS NOT NULL, s.last_sweep_complete,
       s.last_sweep_problem
FROM deliveries AS d
JOIN destinations AS x ON x.id = d.destination_id
LEFT JOIN stations AS t ON t.id = d.station_id
LEFT JOIN delivery_status AS s ON s.delivery_id = d.id
WHERE CASE WHEN %(session_id)s::bigint IS NOT NULL
           THEN d.id = (SELECT delivery_id FROM sync_sessions WHERE id = %(session_id)s)
           ELSE d.retired_at IS NULL
                AND (%(station)s::text IS NULL OR d.shared OR t.name = %(station)s)
      END
ORDER BY d.name, d.id;

-- name: unfinished_files
-- Gives the current files of a scope that are not stored. One that vanished is among them whatever
-- else is stored: recorders on one schedule write files of one name, size and time.
WITH unfinished AS (
    SELECT f.id, f.path,
           CASE f.state
               WHEN 'failed' THEN 'quarantined: ' || coalesce(f.reason, 'no reason is kept')
               WHEN 'vanished' THEN 'it left the folder before it was stored; if it is still on '
                                    'the card, copy it again'
               ELSE 'it is waiting to be stored' END AS reason
    FROM file_uploads AS f JOIN sensors AS s ON s.id = f.sensor_id
    WHERE f.delivery_id = %(delivery_id)s AND f.is_current
      AND f.state IN ('pending', 'failed', 'vanished')
      AND (%(session_id)s::bigint IS NULL OR f.session_id = %(session_id)s)
      AND (%(sensor)s::text IS NULL OR s.serial = %(sensor)s)
)
SELECT path, reason, count(*) OVER () FROM unfinished ORDER BY id LIMIT %(most)s;

-- name: make_verify_tables
-- Makes this connection's private tables: the objects that must be there, and what was listed.
CREATE TEMP TABLE IF NOT EXISTS verify_files (
    n           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id   bigint,
    key_digest  bytea,
    picked      boolean NOT NULL DEFAULT false,
    method      text,
    result      text,
    reason      text
);
CREATE TEMP TABLE IF NOT EXISTS verify_listed
    (key text, key_digest bytea, size_bytes bigint, etag text);

-- name: empty_verify_tables
-- Forgets what was verified before.
TRUNCATE verify_files RESTART IDENTITY;
TRUNCATE verify_listed;

-- name: fill_verify_files
-- Takes note of all stored objects of a scope; gives how many, and their bytes.
WITH known AS (
    SELECT o.upload_id, o.object_key, o.size_bytes
    FROM stored_objects AS o JOIN sensors AS s ON s.id = o.sensor_id
    WHERE o.delivery_id = %(delivery_id)s
      AND (%(session_id)s::bigint IS NULL OR o.session_id = %(session_id)s)
      AND (%(sensor)s::text IS NULL OR s.serial = %(sensor)s)
), filled AS (
    INSERT INTO verify_files (upload_id, key_digest)
    SELECT upload_id, substring(sha256(convert_to(object_key, 'UTF8')) FOR 16)
    FROM known ORDER BY upload_id
)
SELECT count(*), coalesce(sum(size_bytes), 0)::bigint FROM known;

-- name: copy_verify_listed
-- Takes in some thousand objects of a listing, with their keys.
COPY verify_listed (key, key_digest, size_bytes, etag) FROM STDIN;

-- name: compare_listed
-- Compares size and ETag as listed with what the store said when the object was stored.
UPDATE verify_files AS v SET method = 'listing', result = c.result, reason = c.reason
FROM (
    SELECT w.n,
           CASE WHEN l.key_digest IS NULL THEN 'missing'
                WHEN l.size_bytes <> f.size_bytes THEN 'different'
                WHEN coalesce(f.etag, '') = '' OR l.etag = '' THEN NULL
                WHEN lower(l.etag) <> lower(f.etag) THEN 'different'
                ELSE 'same' END AS result,
           CASE WHEN l.key_digest IS NULL THEN 'it is not in the bucket'
                WHEN l.size_bytes <> f.size_bytes
                THEN 'it has ' || l.size_bytes || ' bytes in the bucket, not ' || f.size_bytes
                WHEN coalesce(f.etag, '') = '' OR l.etag = '' THEN NULL
                WHEN lower(l.etag) <> lower(f.etag)
                THEN 'its ETag in the bucket is ' || l.etag || '; when it was stored it was '
                     || f.etag || ' (--download compares the bytes)'
           END AS reason
    FROM verify_files AS w
    JOIN file_uploads AS f ON f.id = w.upload_id
    LEFT JOIN verify_listed AS l ON l.key_digest = w.key_digest
) AS c
WHERE c.n = v.n;

-- name: doubtful_objects
-- Gives the next objects that are not known to be the same.
SELECT v.n, o.id, o.delivery_id, o.path_bytes, o.path, o.object_key, o.size_bytes, o.sha256,
       o.etag, o.checksum_sha256, o.is_current
FROM (SELECT n, upload_id FROM verify_files
      WHERE result IS DISTINCT FROM 'same' AND n > %(after)s ORDER BY n LIMIT %(most)s) AS v
JOIN file_uploads AS o ON o.id = v.upload_id
ORDER BY v.n;

-- name: pick_objects
-- Chooses some of the objects by chance.
UPDATE verify_files AS v SET picked = true
FROM (SELECT n FROM verify_files ORDER BY random() LIMIT %(most)s) AS chosen
WHERE v.n = chosen.n;

-- name: picked_objects
-- Gives the next objects that were picked.
SELECT v.n, o.id, o.delivery_id, o.path_bytes, o.path, o.object_key, o.size_bytes, o.sha256,
       o.etag, o.checksum_sha256, o.is_current
FROM (SELECT n, upload_id FROM verify_files
      WHERE picked AND n > %(after)s ORDER BY n LIMIT %(most)s) AS v
JOIN file_uploads AS o ON o.id = v.upload_id
ORDER BY v.n;

-- name: note_findings
-- Notes what was found out about some objects.
UPDATE verify_files AS v SET method = %(method)s, result = c.result, reason = c.reason
FROM jsonb_to_recordset(%(findings)s) AS c (n bigint, result text, reason text)
WHERE v.n = c.n;

-- name: give_up_picked
-- Takes back what was known of picked objects that could not be looked at as closely as was asked.
UPDATE verify_files SET result = NULL, reason = %(reason)s
WHERE picked AND method IS DISTINCT FROM %(method)s;

-- name: give_up
-- Notes why objects have no result.
UPDATE verify_files SET reason = %(reason)s WHERE result IS NULL AND coalesce(reason, '') = '';

-- name: verify_last
-- Gives the last number of the objects under verification.
SELECT coalesce(max(n), 0) FROM verify_files;

-- name: record_checks
-- Writes down for good what was found about a range of objects. Bytes that were found different
-- stay so until they are read back again, or are gone.
INSERT INTO object_checks AS k (upload_id, delivery_id, checked_at, method, result, reason)
SELECT upload_id, %(delivery_id)s, now(), method::check_method, result::check_result,
       CASE WHEN result <> 'same' THEN reason END
FROM verify_files
WHERE result IS NOT NULL AND n BETWEEN %(first)s AND %(last)s
ON CONFLICT (upload_id) DO UPDATE
SET checked_at = excluded.checked_at, method = excluded.method, result = excluded.result,
    reason = excluded.reason
WHERE NOT (k.result = 'different' AND k.method = 'read-back'
           AND excluded.method <> 'read-back' AND excluded.result <> 'missing');

-- name: verify_counts
-- Counts what a verification came to: by method, and what stands against each object.
SELECT count(*) FILTER (WHERE v.result IS NOT NULL AND v.method = 'listing'),
       count(*) FILTER (WHERE v.result IS NOT NULL AND v.method = 'head'),
       count(*) FILTER (WHERE v.result IS NOT NULL AND v.method = 'read-back'),
       count(*) FILTER (WHERE v.result IS NOT NULL AND k.result = 'missing'),
       count(*) FILTER (WHERE v.result IS NOT NULL AND k.result = 'different'),
       count(*) FILTER (WHERE v.result IS NULL)
FROM verify_files AS v LEFT JOIN object_checks AS k ON k.upload_id = v.upload_id;

-- name: verify_problems
-- Gives the objects that are missing or different, or could not be verified.
SELECT f.path,
       CASE WHEN v.result IS NULL
            THEN 'it could not be verified: ' || coalesce(v.reason, 'nobody looked')
            WHEN k.method::text <> v.method
            THEN k.reason || ' (found on ' || to_char(k.checked_at, 'YYYY-MM-DD')
                 || '; only --download can find it well again)'
            ELSE k.reason END
FROM verify_files AS v
JOIN file_uploads AS f ON f.id = v.upload_id
LEFT JOIN object_checks AS k ON k.upload_id = v.upload_id
WHERE v.result IS NULL OR k.result <> 'same'
ORDER BY v.n LIMIT %(most)s;

-- name: extra_objects
-- Gives listed objects that no file of the destination is known to be stored as, or on its way to.
SELECT l.key, l.size_bytes, count(*) OVER ()
FROM verify_listed AS l
WHERE NOT EXISTS (
    SELECT 1 FROM (
        SELECT substring(sha256(convert_to(f.object_key, 'UTF8')) FOR 16) AS key_digest
        FROM file_uploads AS f
        JOIN deliveries AS d ON d.destination_id = f.destination_id
        WHERE d.id = %(delivery_id)s AND f.object_key IS NOT NULL
        UNION ALL
        SELECT substring(sha256(convert_to(
                   CASE d.s3_prefix WHEN '' THEN f.path ELSE d.s3_prefix || '/' || f.path END,
                   'UTF8')) FOR 16)
        FROM upload_queue AS q
        JOIN file_uploads AS f ON f.id = q.upload_id
        JOIN deliveries AS d ON d.id = f.delivery_id
        WHERE q.delivery_id = %(delivery_id)s
    ) AS known
    WHERE known.key_digest = l.key_digest)
ORDER BY l.key LIMIT %(most)s;

-- name: pick_unproven
-- Chooses the objects whose bytes only reading proves: the store was not seen to check them when they
-- were stored, or something is in doubt. What is missing can't be read. Versions that have a
-- successor are chosen only where they are asked for.
WITH chosen AS (
    UPDATE verify_files AS v SET picked = true
    FROM file_uploads AS f
    LEFT JOIN object_checks AS k ON k.upload_id = f.id
    WHERE f.id = v.upload_id AND (f.is_current OR %(every_version)s)
      AND v.result IS DISTINCT FROM 'missing'
      AND (v.result IS DISTINCT FROM 'same'
           OR coalesce(f.store_check, 'none') = 'none' OR coalesce(f.etag, '') = ''
           OR (k.method = 'read-back' AND k.result <> 'same'))
    RETURNING 1
)
SELECT count(*) FROM chosen;

-- name: make_receipt_tables
-- Makes this connection's private table of all files under account: what was seen, what is on the
-- books, and what the store said.
CREATE TEMP TABLE IF NOT EXISTS receipt_files (
    n             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path          text,
    path_bytes    bytea,
    sensor        text,
    entry_type    text,
    size_bytes    bigint,
    mtime_ns      bigint,
    ctime_ns      bigint,
    state         text,
    booked_bytes  bigint,
    booked_mtime  bigint,
    booked_ctime  bigint,
    object_key    text,
    sha256        bytea,
    version_id    text,
    etag          text,
    conflict      boolean,
    reason        text,
    proof         boolean,
    result        text,
    method        text,
    proof_reason  text,
    checked_at    timestamptz
);
TRUNCATE receipt_files RESTART IDENTITY;

-- name: fill_receipt_files
-- Brings together what was listed, the current files on the books, and what was verified of these.
-- Bytes that were once read and found different stay so until they are read again.
INSERT INTO receipt_files
    (path, path_bytes, sensor, entry_type, size_bytes, mtime_ns, ctime_ns, state, booked_bytes,
     booked_mtime, booked_ctime, object_key, sha256, version_id, etag, conflict, reason, proof,
     result, method, proof_reason, checked_at)
SELECT coalesce(l.path, f.path), coalesce(l.path_bytes, f.path_bytes),
       coalesce(l.sensor, f.serial), l.entry_type, l.size_bytes, l.mtime_ns, l.ctime_ns,
       f.state, f.size_bytes, f.mtime_ns, f.ctime_ns, f.object_key, f.sha256, f.version_id,
       f.etag, f.conflict, f.reason, f.proof, f.result, f.method, f.proof_reason, f.checked_at
FROM (
    SELECT e.entry_type, e.size_bytes, e.mtime_ns, e.ctime_ns, e.path_bytes, e.path_digest,
           named.path,
           CASE WHEN cardinality(p.parts) > %(sensor_level)s AND %(sensor_level)s > 0
                THEN p.parts[%(sensor_level)s] ELSE '' END AS sensor
    FROM listing AS e
    CROSS JOIN LATERAL (
        SELECT CASE WHEN e.special <> '' THEN e.special
                    ELSE convert_from(e.path_bytes, 'UTF8') END AS path
        OFFSET 0
    ) AS named
    CROSS JOIN LATERAL (SELECT string_to_array(named.path, '/') AS parts OFFSET 0) AS p
) AS l
FULL JOIN (
    SELECT u.path, u.path_bytes, u.path_digest, s.serial, u.state::text AS state, u.size_bytes,
           u.mtime_ns, u.ctime_ns, u.object_key, u.sha256, u.version_id, u.conflict, u.reason,
           CASE WHEN coalesce(u.store_check, 'none') <> 'none' THEN u.etag END AS etag,
           v.upload_id IS NOT NULL AS proof,
           CASE WHEN v.result = 'same' THEN coalesce(k.result::text, v.result)
                ELSE v.result END AS result,
           v.method,
           CASE WHEN v.result = 'same' AND k.result <> 'same' THEN k.reason
                ELSE v.reason END AS proof_reason,
           k.checked_at
    FROM file_uploads AS u
    JOIN sensors AS s ON s.id = u.sensor_id
    LEFT JOIN verify_files AS v ON v.upload_id = u.id
    LEFT JOIN object_checks AS k ON k.upload_id = u.id
    WHERE u.delivery_id = %(delivery_id)s AND u.is_current
) AS f ON f.path_digest = l.path_digest
ORDER BY coalesce(l.path, f.path) COLLATE "C";

-- name: count_receipt_files
-- Counts what is under account, and beside it what was listed and what is on the books.
SELECT count(*) FILTER (WHERE r.entry_type IS NOT NULL AND r.inside),
       count(*) FILTER (WHERE r.state IS NOT NULL AND r.inside),
       l.entries, l.entries - l.paths,
       abs(count(*) FILTER (WHERE r.entry_type IS NOT NULL) - l.entries)
       + abs(count(*) FILTER (WHERE r.state IS NOT NULL) - b.files)
FROM (SELECT count(*) AS entries, count(DISTINCT path_digest) AS paths FROM listing) AS l
CROSS JOIN (SELECT count(*) AS files FROM file_uploads
            WHERE delivery_id = %(delivery_id)s AND is_current) AS b
LEFT JOIN (SELECT entry_type, state,
                  %(sensor)s::text IS NULL OR sensor = %(sensor)s AS inside
           FROM receipt_files) AS r ON true
GROUP BY l.entries, l.paths, b.files;

-- name: receipt_files
-- Gives the next files under account.
SELECT n, path_bytes, path, sensor, entry_type, size_bytes, mtime_ns, ctime_ns, state,
       booked_bytes, booked_mtime, booked_ctime, object_key, sha256, version_id, etag, conflict,
       reason, proof, result, method, proof_reason, checked_at
FROM receipt_files
WHERE n > %(after)s AND (%(sensor)s::text IS NULL OR sensor = %(sensor)s)
ORDER BY n LIMIT %(most)s;

-- name: accounted_sensors
-- Names the sensors that have a file under account.
SELECT DISTINCT sensor COLLATE "C" AS sensor FROM receipt_files ORDER BY 1;

-- name: changed_meanwhile
-- Compares a listing with the one that files are under account by, and gives what came, went or is
-- another.
SELECT path
FROM (
    SELECT coalesce(r.path, n.path) AS path,
           coalesce(r.sensor, CASE WHEN cardinality(n.parts) > %(sensor_level)s
                                        AND %(sensor_level)s > 0
                                   THEN n.parts[%(sensor_level)s] ELSE '' END) AS sensor
    FROM (SELECT * FROM receipt_files WHERE entry_type IS NOT NULL) AS r
    FULL JOIN listing AS l ON l.path_bytes = r.path_bytes
    LEFT JOIN LATERAL (
        SELECT t.path, string_to_array(t.path, '/') AS parts
        FROM (SELECT CASE WHEN l.special <> '' THEN l.special
                          ELSE convert_from(l.path_bytes, 'UTF8') END AS path OFFSET 0) AS t
    ) AS n ON r.path IS NULL
    WHERE r.path_bytes IS NULL OR l.path_bytes IS NULL
       OR (r.entry_type, r.size_bytes, r.mtime_ns, r.ctime_ns)
          IS DISTINCT FROM (l.entry_type, l.size_bytes, l.mtime_ns, l.ctime_ns)
) AS c
WHERE %(sensor)s::text IS NULL OR sensor = %(sensor)s
ORDER BY path COLLATE "C" LIMIT %(most)s;

-- name: make_content_tables
-- Makes this connection's private tables: a card's files as they were read, and where their contents
-- are stored.
CREATE TEMP TABLE IF NOT EXISTS card_files
    (path_bytes bytea, size_bytes bigint, mtime_ns bigint, ctime_ns bigint, sha256 bytea,
     problem text);
CREATE TEMP TABLE IF NOT EXISTS card_objects
    (delivery_id bigint, upload_id bigint, size_bytes bigint, sha256 bytea);
CREATE TEMP TABLE IF NOT EXISTS card_found (
    size_bytes   bigint,
    sha256       bytea,
    object_key   text,
    endpoint_url text,
    version_id   text,
    result       text,
    method       text,
    reason       text,
    checked_at   timestamptz
);
TRUNCATE card_files, card_objects, card_found;

-- name: copy_content
-- Takes in some of a card's files as they were read.
COPY card_files (path_bytes, size_bytes, mtime_ns, ctime_ns, sha256, problem) FROM STDIN;

-- name: find_content
-- Finds the objects that have one of the contents; of each content the newest few, because small
-- files of equal content may be stored a thousand times.
INSERT INTO card_objects (delivery_id, upload_id, size_bytes, sha256)
SELECT delivery_id, upload_id, size_bytes, sha256
FROM (
    SELECT o.delivery_id, o.upload_id, o.size_bytes, o.sha256,
           row_number() OVER (PARTITION BY o.sha256, o.size_bytes
                              ORDER BY o.is_current DESC, o.upload_id DESC) AS place
    FROM stored_objects AS o
    JOIN (SELECT DISTINCT size_bytes, sha256 FROM card_files WHERE problem = '') AS c
      ON c.sha256 = o.sha256 AND c.size_bytes = o.size_bytes
    WHERE o.delivery_id = ANY(%(delivery_ids)s::bigint[])
) AS each
WHERE place <= %(most)s;

-- name: content_deliveries
-- Names the deliveries that any of the contents is stored in.
SELECT DISTINCT delivery_id FROM card_objects ORDER BY delivery_id;

-- name: fill_content
-- Takes note of a delivery's objects that have one of the contents, for verification.
WITH filled AS (
    INSERT INTO verify_files (upload_id, key_digest)
    SELECT o.upload_id, substring(sha256(convert_to(f.object_key, 'UTF8')) FOR 16)
    FROM card_objects AS o JOIN file_uploads AS f ON f.id = o.upload_id
    WHERE o.delivery_id = %(delivery_id)s ORDER BY o.upload_id
    RETURNING 1
)
SELECT count(*) FROM filled;

-- name: note_content
-- Keeps what was found about the contents in the delivery that was verified just now.
INSERT INTO card_found
    (size_bytes, sha256, object_key, endpoint_url, version_id, result, method, reason, checked_at)
SELECT f.size_bytes, f.sha256, x.bucket_name || '/' || f.object_key, x.endpoint_url, f.version_id,
       CASE WHEN v.result = 'same' THEN coalesce(k.result::text, v.result) ELSE v.result END,
       v.method,
       CASE WHEN v.result = 'same' AND k.result <> 'same' THEN k.reason ELSE v.reason END,
       k.checked_at
FROM verify_files AS v
JOIN file_uploads AS f ON f.id = v.upload_id
JOIN destinations AS x ON x.id = f.destination_id
LEFT JOIN object_checks AS k ON k.upload_id = f.id;

-- name: found_content
-- Gives the next files of the card's last listing, with what reading each came to and the best that
-- was found of its content.
SELECT r.n, r.path_bytes, r.path, r.sensor, r.entry_type, r.size_bytes, r.mtime_ns, r.ctime_ns,
       c.size_bytes, c.mtime_ns, c.ctime_ns, c.sha256, c.problem,
       f.object_key, f.endpoint_url, f.version_id, f.result, f.method, f.reason, f.checked_at
FROM (SELECT * FROM receipt_files WHERE n > %(after)s ORDER BY n LIMIT %(most)s) AS r
LEFT JOIN card_files AS c ON c.path_bytes = r.path_bytes
LEFT JOIN LATERAL (
    SELECT * FROM card_found AS x
    WHERE x.sha256 = c.sha256 AND x.size_bytes = c.size_bytes
    ORDER BY (x.result = 'same') DESC NULLS LAST, x.object_key LIMIT 1
) AS f ON true
ORDER BY r.n;

-- name: index_content
-- Makes what was found of each content quick to look up, and each file as it was read.
CREATE INDEX IF NOT EXISTS card_found_by_content ON card_found (sha256, size_bytes);
CREATE INDEX IF NOT EXISTS card_files_by_path ON card_files USING hash (path_bytes);

-- name: record_receipt
-- Keeps that a receipt was made; told twice, it is kept once.
INSERT INTO receipts
    (delivery_id, sensor, folder, verdict, made_at, made_by, digest, files_stored, bytes_stored,
     files_skipped, files_quarantined, files_pending, problems, kept_in, object_key)
VALUES
    (%(delivery_id)s, %(sensor)s, %(folder)s, %(verdict)s, %(made_at)s, %(made_by)s,
     decode(%(digest)s, 'hex'), %(files_stored)s, %(bytes_stored)s, %(files_skipped)s,
     %(files_quarantined)s, %(files_pending)s, %(problems)s, %(kept_in)s, %(object_key)s)
ON CONFLICT (digest) DO UPDATE SET object_key = coalesce(excluded.object_key, receipts.object_key)
RETURNING id;

-- name: begin_audit
-- Makes the row of a station's audit when it begins for the first time.
INSERT INTO audit_rounds (station_id) SELECT station_id FROM daemons WHERE id = %(daemon_id)s
ON CONFLICT (station_id) DO NOTHING;

-- name: audit_round
-- Says how far a station's audit is, for how long its share was not used, how many objects its
-- deliveries have by the kept counts, and up to which upload a round goes.
SELECT r.began_at, r.position, extract(epoch FROM now() - r.used_until)::float8,
       (SELECT coalesce(sum(u.files), 0)::bigint
        FROM (SELECT files FROM file_counts
              WHERE delivery_id = ANY(%(delivery_ids)s) AND state IN ('uploaded', 'skipped')
              UNION ALL
              SELECT files FROM counter_deltas
              WHERE delivery_id = ANY(%(delivery_ids)s) AND state IN ('uploaded', 'skipped')
             ) AS u),
       (SELECT coalesce(max(id), 0) FROM file_uploads)
FROM audit_rounds AS r
WHERE r.station_id = (SELECT station_id FROM daemons WHERE id = %(daemon_id)s);

-- name: audit_objects
-- Gives the next objects of a range that were not verified since the round began. That an object
-- was stored counts as verified.
SELECT o.upload_id, o.delivery_id, o.path_bytes, o.path, o.object_key, o.size_bytes, o.sha256,
       o.etag, o.checksum_sha256, o.is_current
FROM stored_objects AS o
LEFT JOIN object_checks AS k ON k.upload_id = o.upload_id
WHERE o.upload_id BETWEEN %(first)s AND %(last)s AND o.delivery_id = ANY(%(delivery_ids)s)
  AND coalesce(k.checked_at, o.finished_at) < %(began_at)s
ORDER BY o.upload_id LIMIT %(most)s;

-- name: note_audited
-- Writes down what the audit found, like record_checks; gives the uploads that were well before
-- and are not any more.
WITH checked AS (
    SELECT * FROM jsonb_to_recordset(%(checks)s) AS c (
        upload_id bigint, delivery_id bigint, method check_method, result check_result, reason text)
), written AS (
    INSERT INTO object_checks AS k (upload_id, delivery_id, checked_at, method, result, reason)
    SELECT upload_id, delivery_id, now(), method, result, CASE WHEN result <> 'same' THEN reason END
    FROM checked ORDER BY upload_id
    ON CONFLICT (upload_id) DO UPDATE
    SET checked_at = excluded.checked_at, method = excluded.method, result = excluded.result,
        reason = excluded.reason
    WHERE NOT (k.result = 'different' AND k.method = 'read-back'
               AND excluded.method <> 'read-back' AND excluded.result <> 'missing')
)
SELECT c.upload_id FROM checked AS c
LEFT JOIN object_checks AS before ON before.upload_id = c.upload_id
WHERE c.result <> 'same' AND coalesce(before.result, 'same') = 'same';

-- name: audit_went_on
-- Notes how far the audit has come, and charges it to the daily share; at the end of a round the
-- next one begins. No more than a day's share is ever kept.
UPDATE audit_rounds
SET position = CASE WHEN %(round_over)s THEN 0 ELSE coalesce(%(position)s, position) END,
    began_at = CASE WHEN %(round_over)s THEN now() ELSE began_at END,
    used_until = least(now(), greatest(used_until, now() - interval '1 day')
                              + make_interval(secs => %(used_seconds)s))
WHERE station_id = (SELECT station_id FROM daemons WHERE id = %(daemon_id)s);

-- name: lock_delivery
-- One program at a time ends sessions and marks files gone in a delivery.
SELECT pg_advisory_xact_lock(hashtext('sensordrop.delivery'), %(delivery_id)s::int);

-- name: session_to_finish
-- Holds the running session alone: whoever is enrolling into it is done when this returns.
SELECT id FROM sync_sessions
WHERE delivery_id = %(delivery_id)s AND state <> 'ended' FOR UPDATE;

-- name: begin_verifying
-- Says that a session is being verified.
UPDATE sync_sessions SET state = 'verifying', receipt_problem = NULL WHERE id = %(session_id)s;

-- name: session_mark
-- Says where a session stands: whatever comes into it or is finished in it changes this.
SELECT count(*) || ' ' || coalesce(max(id), 0) || ' '
       || coalesce(extract(epoch FROM max(finished_at)), 0)
FROM file_uploads WHERE session_id = %(session_id)s;

-- name: go_on_with_session
-- Takes back that a session was being verified: it changed meanwhile.
UPDATE sync_sessions SET state = 'open' WHERE id = %(session_id)s AND state = 'verifying';

-- name: note_no_receipt
-- Says why a session ends without the receipt that was being made.
UPDATE sync_sessions
SET receipt_problem = 'the delivery was pointed elsewhere while its receipt was made'
WHERE id = %(session_id)s AND state = 'verifying';

-- name: note_session_receipt
-- Ties a session to its receipt, or says why it has none.
UPDATE sync_sessions SET receipt_problem = %(problem)s WHERE id = %(session_id)s;
UPDATE receipts SET session_id = %(session_id)s WHERE id = %(receipt)s;

-- name: finish_session
-- Ends a session with counts that are recounted from its files.
UPDATE sync_sessions AS s
SET state = 'ended', ended_at = now(), files_total = c.total, files_uploaded = c.uploaded,
    files_skipped = c.skipped, files_failed = c.failed, files_superseded = c.superseded,
    files_vanished = c.vanished, bytes_total = c.bytes, bytes_uploaded = c.bytes_uploaded
FROM (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE state = 'uploaded') AS uploaded,
           count(*) FILTER (WHERE state = 'skipped') AS skipped,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'superseded') AS superseded,
           count(*) FILTER (WHERE state = 'vanished') AS vanished,
           coalesce(sum(size_bytes), 0) AS bytes,
           coalesce(sum(size_bytes) FILTER (WHERE state = 'uploaded'), 0) AS bytes_uploaded
    FROM file_uploads WHERE session_id = %(session_id)s
) AS c
WHERE s.id = %(session_id)s
RETURNING s.files_total, s.files_uploaded, s.files_skipped, s.files_failed, s.files_superseded,
          s.files_vanished, s.bytes_uploaded;

-- name: drop_empty_session
-- A session in which nothing came to be on the books leaves no row.
DELETE FROM sync_sessions WHERE id = %(session_id)s AND files_total = 0;

-- name: unfinished_uploads
-- Gives the uploads in parts that were begun for a file, each with the parts that landed.
SELECT m.id, m.object_key, m.remote_id, m.sha256, m.size_bytes, m.part_bytes, m.begun_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                   p.number, p.size_bytes, encode(p.sha256, 'hex'), p.etag) ORDER BY p.number), '[]')
        FROM multipart_parts AS p WHERE p.multipart_id = m.id) AS parts
FROM multipart_uploads AS m
WHERE m.upload_id = %(upload_id)s
ORDER BY m.id;

-- name: begin_upload
-- Writes down that the store is about to be asked for an upload in parts.
INSERT INTO multipart_uploads
       (upload_id, delivery_id, destination_id, object_key, sha256, size_bytes, part_bytes)
SELECT u.id, u.delivery_id, u.destination_id,
       %(object_key)s, %(sha256)s, %(size_bytes)s, %(part_bytes)s
FROM file_uploads AS u WHERE u.id = %(upload_id)s
RETURNING id;

-- name: name_upload
-- Writes down what the store calls it.
UPDATE multipart_uploads SET remote_id = %(remote_id)s, touched_at = now()
WHERE id = %(record_id)s;

-- name: land_parts
-- Writes down parts that the store has, unless somebody took the upload off the list meanwhile.
WITH upload AS (
    UPDATE multipart_uploads SET touched_at = now() WHERE id = %(record_id)s RETURNING id
)
INSERT INTO multipart_parts AS p (multipart_id, number, size_bytes, sha256, etag)
SELECT upload.id, t.number, t.size_bytes, decode(t.sha256, 'hex'), t.etag
FROM upload, jsonb_to_recordset(%(parts)s)
             AS t(number integer, size_bytes bigint, sha256 text, etag text)
ON CONFLICT (multipart_id, number) DO UPDATE
SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256, etag = excluded.etag;

-- name: forget_upload
-- Takes an upload in parts off the list; its parts go with it.
DELETE FROM multipart_uploads WHERE id = %(record_id)s;

-- name: stale_uploads
-- Finds uploads in parts that nobody goes on with: their file is finished, or nothing landed for
-- long. One whose file is claimed is being worked on.
SELECT m.delivery_id,
       ARRAY(SELECT k.remote_id FROM multipart_uploads AS k
             WHERE k.destination_id = m.destination_id AND k.object_key = m.object_key
               AND k.remote_id IS NOT NULL) AS known,
       m.id, m.object_key, m.remote_id, m.sha256, m.size_bytes, m.part_bytes,
       m.begun_at, '[]'::jsonb AS parts
FROM multipart_uploads AS m
LEFT JOIN upload_queue AS q ON q.upload_id = m.upload_id
WHERE m.delivery_id = ANY(%(delivery_ids)s)
  AND q.claimed_by IS NULL
  AND (q.upload_id IS NULL OR m.touched_at < now() - make_interval(secs => %(kept_seconds)s))
ORDER BY m.id
LIMIT %(most)s;

-- name: open_sessions
-- Finds the deliveries whose session has not ended.
SELECT delivery_id, id FROM sync_sessions
WHERE state <> 'ended' AND delivery_id = ANY(%(delivery_ids)s);

-- name: try_fold_lock
-- One program at a time folds the counters.
SELECT pg_try_advisory_xact_lock(hashtext('sensordrop.fold'));

-- name: fold_counters
-- Adds the appended changes to the sums, a bounded number at a time.
WITH taken AS (
    DELETE FROM counter_deltas
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM counter_deltas LIMIT %(most)s))
    RETURNING delivery_id, session_id, sensor_id, kind, state, files, bytes
), by_delivery AS (
    INSERT INTO file_counts AS c (delivery_id, sensor_id, kind, state, files, bytes)
    SELECT delivery_id, sensor_id, kind, state, sum(files), sum(bytes)
    FROM taken GROUP BY delivery_id, sensor_id, kind, state
    ON CONFLICT (delivery_id, sensor_id, kind, state) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes
), by_session AS (
    INSERT INTO session_counts AS c (session_id, state, files, bytes)
    SELECT session_id, state, sum(files), sum(bytes)
    FROM taken WHERE session_id IS NOT NULL GROUP BY session_id, state
    ON CONFLICT (session_id, state) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes
)
SELECT count(*) FROM taken;

-- name: fold_coverage
-- Adds the appended changes of what each sensor recorded on which day to the sums; gives how many
-- there were, and for which delivery and sensor a day lost files.
WITH taken AS (
    DELETE FROM coverage_deltas
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM coverage_deltas LIMIT %(most)s))
    RETURNING delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at
), by_day AS (
    INSERT INTO sensor_days AS c (delivery_id, sensor_id, captured_on, files, bytes, failed)
    SELECT delivery_id, sensor_id, captured_on, sum(files), sum(bytes), sum(failed)
    FROM taken GROUP BY delivery_id, sensor_id, captured_on
    ON CONFLICT (delivery_id, sensor_id, captured_on) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes,
        failed = c.failed + excluded.failed
), by_sensor AS (
    INSERT INTO sensor_sums AS c
        (delivery_id, sensor_id, files, bytes, failed, first_day, last_day, enrolled_at)
    SELECT delivery_id, sensor_id, sum(files), sum(bytes), sum(failed),
           min(captured_on) FILTER (WHERE files > 0), max(captured_on) FILTER (WHERE files > 0),
           max(enrolled_at)
    FROM taken GROUP BY delivery_id, sensor_id
    ON CONFLICT (delivery_id, sensor_id) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes,
        failed = c.failed + excluded.failed,
        first_day = least(c.first_day, excluded.first_day),
        last_day = greatest(c.last_day, excluded.last_day),
        enrolled_at = greatest(c.enrolled_at, excluded.enrolled_at)
)
SELECT count(*),
       array_agg(DISTINCT delivery_id) FILTER (WHERE files < 0),
       array_agg(DISTINCT sensor_id) FILTER (WHERE files < 0)
FROM taken;

-- name: mend_coverage
-- Looks up the first and the last day again where a day lost files: it may have been that day.
UPDATE sensor_sums AS c
SET first_day = d.first_day, last_day = d.last_day
FROM (
    SELECT delivery_id, sensor_id, min(captured_on) FILTER (WHERE files > 0) AS first_day,
           max(captured_on) FILTER (WHERE files > 0) AS last_day
    FROM sensor_days
    WHERE delivery_id = ANY(%(delivery_ids)s) AND sensor_id = ANY(%(sensor_ids)s)
    GROUP BY delivery_id, sensor_id
) AS d
WHERE c.delivery_id = d.delivery_id AND c.sensor_id = d.sensor_id
  AND (c.first_day IS DISTINCT FROM d.first_day OR c.last_day IS DISTINCT FROM d.last_day);

-- name: fold_rates
-- Adds what was finished, minute by minute, to the rates. Minutes are kept for an hour, hours for
-- ever.
WITH taken AS (
    DELETE FROM rate_deltas
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM rate_deltas LIMIT %(most)s))
    RETURNING delivery_id, result, minute, files, bytes, last_at
), by_hour AS (
    INSERT INTO hourly_rates AS c (delivery_id, result, hour, files, bytes, last_at)
    SELECT delivery_id, result, date_bin('1 hour', minute, 'epoch'), sum(files), sum(bytes),
           max(last_at)
    FROM taken GROUP BY 1, 2, 3
    ON CONFLICT (delivery_id, result, hour) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes,
        last_at = greatest(c.last_at, excluded.last_at)
), by_minute AS (
    INSERT INTO minute_rates AS c (delivery_id, result, minute, files, bytes)
    SELECT delivery_id, result, minute, sum(files), sum(bytes)
    FROM taken WHERE minute > now() - interval '1 hour' GROUP BY 1, 2, 3
    ON CONFLICT (delivery_id, result, minute) DO UPDATE
    SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes
), forgotten AS (
    DELETE FROM minute_rates WHERE minute < now() - interval '61 minutes'
)
SELECT count(*) FROM taken;

-- name: lock_migrations
-- Programs that start together bring the ledger up to date one after the other.
SELECT pg_advisory_xact_lock(hashtext('sensordrop.migrate'));

-- name: applied_views
-- Tells which views were made, and of which text.
SELECT name, digest FROM applied_views;

-- name: make_view_schema
-- Makes the schema that the views for dashboards are in.
CREATE SCHEMA IF NOT EXISTS grafana;

-- name: forget_applied_views
-- The views are made anew.
DELETE FROM applied_views;

-- name: note_applied_view
-- Notes of which text a view was made.
INSERT INTO applied_views (name, digest) VALUES (%(name)s, %(digest)s);

-- name: reader
-- Tells whether the role that reads the views exists, whether we may make roles, and whether it
-- may read the views already.
SELECT r.oid IS NOT NULL,
       (SELECT m.rolsuper OR m.rolcreaterole FROM pg_roles AS m WHERE m.rolname = current_user),
       coalesce(has_schema_privilege(r.oid, 'grafana', 'USAGE'), false)
FROM (SELECT 1) AS one LEFT JOIN pg_roles AS r ON r.rolname = %(reader)s;

-- name: let_reader_read
-- Lets that role read the views, and nothing else.
GRANT USAGE ON SCHEMA grafana TO sensordrop_grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO sensordrop_grafana;

-- name: health
-- Tells the server's version, how large the ledger is, and which migration came last.
SELECT current_setting('server_version') AS server,
       pg_database_size(current_database()) AS bytes,
       (SELECT max(version) FROM schema_migrations) AS migration;

-- name: status
-- Tells all there is to show of every delivery; counts come from the kept sums.
SELECT d.id AS delivery_id, d.name, c.name AS client, p.name AS project, y.name AS cycle, d.enabled,
       s.state, s.reason, coalesce(s.settling, 0) AS settling,
       (SELECT coalesce(jsonb_object_agg(t.state, jsonb_build_array(t.files, t.bytes)), '{}')
        FROM (SELECT u.state, sum(u.files) AS files, sum(u.bytes) AS bytes
              FROM kept_counts AS u WHERE u.delivery_id = d.id
              GROUP BY u.state) AS t) AS counts,
       (SELECT count(*) FROM upload_queue AS q
        WHERE q.delivery_id = d.id AND q.next_at = 'infinity') AS uploading,
       (SELECT count(*) FROM object_checks AS k
        WHERE k.delivery_id = d.id AND k.result <> 'same') AS mismatches,
       (SELECT count(*) FROM outbox AS o
        WHERE o.delivery_id = d.id AND o.state = 'waiting' AND o.attempts > 0) AS letters_delayed,
       (SELECT count(*) FROM outbox AS o
        WHERE o.delivery_id = d.id AND o.state = 'failed'
          AND o.asked_at > now() - CASE o.kind WHEN 'registration' THEN interval '30 days'
                                               ELSE interval '1 day' END) AS letters_failed,
       n.session_id, n.started_at AS session_started_at,
       CASE WHEN n.session_id IS NOT NULL THEN jsonb_build_object(
           'total', n.total, 'uploaded', n.uploaded, 'skipped', n.skipped, 'failed', n.failed,
           'bytes', n.bytes, 'files_left', n.files_left, 'bytes_left', n.bytes_left,
           'files_per_second', n.files_per_second, 'bytes_per_second', n.bytes_per_second,
           'best_bytes_per_second', coalesce(
               (SELECT max(h.bytes) / 3600.0 FROM hourly_rates AS h
                WHERE h.delivery_id = d.id AND h.result = 'uploaded'
                  AND h.hour > now() - interval '7 days'), 0)) END AS progress,
       EXISTS (SELECT 1 FROM daemons AS b
               WHERE b.ended_at IS NULL AND b.heartbeat_at > now() - interval '60 seconds'
                 AND d.id = ANY(b.delivery_ids)) AS daemon_alive
FROM deliveries AS d
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN cycles AS y ON y.id = d.cycle_id
LEFT JOIN delivery_status AS s ON s.delivery_id = d.id
LEFT JOIN running_sessions AS n ON n.delivery_id = d.id
WHERE d.retired_at IS NULL
  AND (%(station)s IS NULL OR d.shared
       OR d.station_id = (SELECT id FROM stations WHERE name = %(station)s))
  AND (%(clients)s::text[] IS NULL OR c.name = ANY(%(clients)s))
ORDER BY d.name;

-- name: ping
-- Asks for nothing, to see how long an answer takes.
SELECT 1;

-- name: limit_statements
-- Ends what takes too long in this transaction: telemetry must not keep the server busy.
SELECT set_config('statement_timeout', %(milliseconds)s::text, true);

-- name: vitals_counts
-- Tells how many files deliveries have in each state, from the kept sums.
SELECT delivery_id, state, sum(files), sum(bytes) FROM kept_counts
WHERE delivery_id = ANY(%(delivery_ids)s)
GROUP BY delivery_id, state;

-- name: vitals_successes
-- Tells when a file of each delivery was last stored or found stored, from the kept rates.
SELECT u.delivery_id, extract(epoch FROM max(u.last_at))::float8
FROM (SELECT d.id AS delivery_id, newest.last_at
      FROM unnest(%(delivery_ids)s::bigint[]) AS d (id)
      CROSS JOIN unnest('{uploaded,skipped}'::upload_state[]) AS r (result)
      CROSS JOIN LATERAL (SELECT last_at FROM hourly_rates AS h
                          WHERE h.delivery_id = d.id AND h.result = r.result
                          ORDER BY h.hour DESC LIMIT 1) AS newest
      UNION ALL
      SELECT delivery_id, last_at FROM rate_deltas
      WHERE delivery_id = ANY(%(delivery_ids)s) AND result IN ('uploaded', 'skipped') AND files > 0
     ) AS u
GROUP BY u.delivery_id;

-- name: vitals_sessions
-- Tells how running sessions stand, from the kept sums and rates, as `status` does.
SELECT n.delivery_id, extract(epoch FROM n.started_at)::float8, n.total, n.uploaded, n.skipped,
       n.failed, n.bytes, n.files_left, n.bytes_left, n.files_per_second, n.bytes_per_second,
       coalesce((SELECT max(h.bytes) / 3600.0 FROM hourly_rates AS h
                 WHERE h.delivery_id = n.delivery_id AND h.result = 'uploaded'
                   AND h.hour > now() - interval '7 days'), 0)::float8 AS best_bytes_per_second
FROM running_sessions AS n
WHERE n.delivery_id = ANY(%(delivery_ids)s);

-- name: vitals_queue
-- Tells for each delivery how many files are claimed, since when the oldest file waits, and how
-- many objects do not match. The queue's order is that of enrolment only among files that were
-- never tried, and among those that are claimed; so the first of each is looked at, and as many of
-- those that wait for a retry as is cheap.
SELECT d.id,
       (SELECT count(*) FROM upload_queue AS q
        WHERE q.delivery_id = d.id AND q.next_at = 'infinity'),
       (SELECT extract(epoch FROM min(f.enrolled_at))::float8
        FROM (SELECT min(o.upload_id) AS id
              FROM ((SELECT q.upload_id FROM upload_queue AS q
                     WHERE q.delivery_id = d.id AND q.next_at = 'epoch'
                     ORDER BY q.next_at, q.upload_id LIMIT 1)
                    UNION ALL
                    (SELECT q.upload_id FROM upload_queue AS q
                     WHERE q.delivery_id = d.id AND q.next_at = '-infinity'
                     ORDER BY q.next_at, q.upload_id LIMIT 1)
                    UNION ALL
                    (SELECT q.upload_id FROM upload_queue AS q
                     WHERE q.delivery_id = d.id AND q.next_at = 'infinity'
                     ORDER BY q.next_at, q.upload_id LIMIT 1)
                    UNION ALL
                    (SELECT q.upload_id FROM upload_queue AS q
                     WHERE q.delivery_id = d.id
                       AND q.next_at > 'epoch' AND q.next_at < 'infinity'
                     ORDER BY q.next_at, q.upload_id LIMIT %(most_retrying)s)) AS o) AS oldest
        JOIN file_uploads AS f ON f.id = oldest.id),
       (SELECT count(*)
        FROM (SELECT 1 FROM object_checks AS k
              WHERE k.delivery_id = d.id AND k.result <> 'same'
              LIMIT %(most_mismatches)s) AS bad)
FROM unnest(%(delivery_ids)s::bigint[]) AS d (id);

-- name: vitals_audit
-- Tells how long the audit's daily share was not used.
SELECT extract(epoch FROM now() - used_until)::float8 FROM audit_rounds
WHERE station_id = (SELECT station_id FROM daemons WHERE id = %(daemon_id)s);

-- name: begin_retry
-- Writes down that somebody has files of a delivery retried.
INSERT INTO retries (delivery_id, asked_by, reason, what, at_once)
VALUES (%(delivery_id)s, %(asked_by)s, %(reason)s, %(what)s, %(at_once)s)
RETURNING id;

-- name: newest_retries
-- Says for each delivery which retry by hand was its last: asked once a second.
SELECT d.id, r.id
FROM unnest(%(delivery_ids)s::bigint[]) AS d(id)
CROSS JOIN LATERAL (
    SELECT id FROM retries WHERE delivery_id = d.id ORDER BY id DESC LIMIT 1) AS r;

-- name: failed_files
-- Gives the next quarantined files of a delivery, or of one of its sessions, newest first.
SELECT u.id, f.id
FROM upload_failures AS u
JOIN file_uploads AS f ON f.id = u.upload_id
WHERE u.delivery_id = %(delivery_id)s AND u.final AND u.id < %(before)s
  AND f.is_current AND f.state = 'failed'
  AND (%(session_id)s::bigint IS NULL OR f.session_id = %(session_id)s)
ORDER BY u.id DESC LIMIT %(most)s;

-- name: retry_again
-- Quarantined files of the running session are pending again.
WITH again AS (
    UPDATE file_uploads
    SET state = 'pending', finished_at = NULL, reason = NULL, attempts = 0, crashes = 0
    WHERE id = ANY(%(upload_ids)s) AND is_current AND state = 'failed'
      AND session_id = %(session_id)s
    RETURNING id, claim_number
), story AS (
    UPDATE upload_failures SET final = false
    WHERE upload_id IN (SELECT id FROM again) AND final
), told AS (
    INSERT INTO retried_files (retry_id, upload_id) SELECT %(retry_id)s, id FROM again
)
INSERT INTO upload_queue (upload_id, delivery_id, claim_number, next_at)
SELECT id, %(delivery_id)s, claim_number, CASE WHEN %(at_once)s THEN '-infinity' ELSE now() END
FROM again;

-- name: retry_supersede
-- Those of sessions that have ended get a successor: an ended session keeps what it counted.
UPDATE file_uploads
SET is_current = false, superseded_from = state, state = 'superseded'
WHERE id = ANY(%(upload_ids)s) AND is_current AND state = 'failed'
  AND session_id IS DISTINCT FROM %(session_id)s
RETURNING id;

-- name: retry_anew
-- Puts the successors on the books and into the queue.
WITH anew AS (
    INSERT INTO file_uploads
        (delivery_id, destination_id, session_id, sensor_id, predecessor_id, kind, size_bytes,
         mtime_ns, ctime_ns, path, path_bytes, path_digest)
    SELECT delivery_id, destination_id, %(session_id)s, sensor_id, id, kind, size_bytes,
           mtime_ns, ctime_ns, path, path_bytes, path_digest
    FROM file_uploads WHERE id = ANY(%(upload_ids)s) ORDER BY id
    RETURNING id
), told AS (
    INSERT INTO retried_files (retry_id, upload_id) SELECT %(retry_id)s, id FROM anew
)
INSERT INTO upload_queue (upload_id, delivery_id, next_at)
SELECT id, %(delivery_id)s, CASE WHEN %(at_once)s THEN '-infinity' ELSE now() END FROM anew;

-- name: waiting_files
-- Gives the next files of a delivery, or of one of its sessions, that wait for their next attempt.
SELECT q.upload_id
FROM upload_queue AS q
JOIN file_uploads AS f ON f.id = q.upload_id
WHERE q.delivery_id = %(delivery_id)s AND q.next_at > now() AND q.next_at < 'infinity'
  AND (%(session_id)s::bigint IS NULL OR f.session_id = %(session_id)s)
ORDER BY q.next_at, q.upload_id LIMIT %(most)s;

-- name: retry_now
-- Files that wait for their next attempt, or for their turn, are the next to be claimed, with all
-- their attempts before them.
WITH hurried AS (
    UPDATE upload_queue SET next_at = '-infinity', attempts = 0
    WHERE upload_id = ANY(%(upload_ids)s) AND claimed_by IS NULL AND next_at > '-infinity'
    RETURNING upload_id
)
INSERT INTO retried_files (retry_id, upload_id) SELECT %(retry_id)s, upload_id FROM hurried;

-- name: count_retry
-- Notes how many files a retry by hand has come to so far.
UPDATE retries SET files = %(files)s WHERE id = %(retry_id)s;

-- name: drop_empty_retry
-- A retry that found nothing to retry leaves no row.
DELETE FROM retries WHERE id = %(retry_id)s AND files = 0;

-- name: controls
-- Finds what people set for a program's station and its deliveries; asked once a second.
SELECT kind, delivery_id, value, reason, set_by, set_at, until
FROM controls
WHERE ended_at IS NULL
  AND (until IS NULL OR until > now())
  AND (delivery_id = ANY(%(delivery_ids)s)
       OR station_id = (SELECT station_id FROM daemons WHERE id = %(daemon_id)s));

-- name: station_place
-- Finds the station that something is to be set for.
SELECT id AS station_id, NULL::bigint AS delivery_id FROM stations WHERE name = %(station)s;

-- name: delivery_place
-- Finds the delivery, of a station or shared, that something is to be set for.
SELECT NULL::bigint AS station_id, d.id AS delivery_id
FROM deliveries AS d
JOIN stations AS s ON s.name = %(station)s
JOIN clients AS c ON c.id = d.client_id
WHERE d.name = %(delivery)s AND d.retired_at IS NULL AND (d.shared OR d.station_id = s.id)
  AND (%(clients)s::text[] IS NULL OR c.name = ANY(%(clients)s))
ORDER BY d.enabled DESC, d.id DESC LIMIT 1;

-- name: end_control
-- Ends what was set of a kind: something new is set, or the configuration is to hold again.
UPDATE controls SET ended_at = now(), ended_by = %(set_by)s
WHERE ended_at IS NULL AND kind = %(kind)s
  AND (station_id = %(station_id)s OR delivery_id = %(delivery_id)s);

-- name: end_done_control
-- Ends what was set for a delivery once it was done, unless something else was set since.
UPDATE controls SET ended_at = now(), ended_by = %(ended_by)s
WHERE ended_at IS NULL AND kind = %(kind)s AND delivery_id = %(delivery_id)s
  AND set_at = %(set_at)s;

-- name: set_control
-- Sets something for a station or a delivery.
INSERT INTO controls (station_id, delivery_id, kind, value, reason, set_by, until)
VALUES (%(station_id)s, %(delivery_id)s, %(kind)s, %(value)s, %(reason)s, %(set_by)s,
        now() + make_interval(secs => %(for_seconds)s));

-- name: hand_on_controls
-- Gives what was set for a delivery to the row that begins where it is pointed elsewhere.
UPDATE controls SET delivery_id = %(delivery_id)s
WHERE delivery_id = %(former_id)s AND ended_at IS NULL;

-- name: control_history
-- Tells who set something of a kind for a station and its deliveries, the newest first, and who
-- ended it.
SELECT d.name AS delivery, c.value, c.reason, c.set_by, c.set_at, c.until, c.ended_by, c.ended_at
FROM controls AS c
JOIN stations AS s ON s.name = %(station)s
LEFT JOIN deliveries AS d ON d.id = c.delivery_id
LEFT JOIN clients AS k ON k.id = d.client_id
WHERE c.kind = %(kind)s AND (c.station_id = s.id OR d.station_id = s.id OR d.shared)
  AND (%(clients)s::text[] IS NULL OR k.id IS NULL OR k.name = ANY(%(clients)s))
ORDER BY c.id DESC LIMIT %(most)s;

-- name: settings_in_force
-- Tells what the configuration says of one key, and what was set over it: first for the station,
-- then for its deliveries by name.
WITH place AS (
    SELECT s.id AS station_id, NULL::bigint AS delivery_id, NULL::text AS delivery
    FROM stations AS s WHERE s.name = %(station)s
    UNION ALL
    SELECT s.id, d.id, d.name
    FROM stations AS s
    JOIN deliveries AS d ON d.shared OR d.station_id = s.id
    JOIN clients AS c ON c.id = d.client_id
    WHERE s.name = %(station)s AND d.retired_at IS NULL AND d.enabled
      AND (%(clients)s::text[] IS NULL OR c.name = ANY(%(clients)s))
)
SELECT p.delivery, h.configuration ->> %(kind)s AS configured,
       c.kind, p.delivery_id, c.value, c.reason, c.set_by, c.set_at, c.until
FROM place AS p
LEFT JOIN LATERAL (
    SELECT configuration FROM config_history
    WHERE station_id = p.station_id AND delivery_id IS NOT DISTINCT FROM p.delivery_id
    ORDER BY id DESC LIMIT 1) AS h ON true
LEFT JOIN controls AS c
    ON c.kind = %(kind)s AND c.ended_at IS NULL AND (c.until IS NULL OR c.until > now())
   AND CASE WHEN p.delivery_id IS NULL THEN c.station_id = p.station_id
            ELSE c.delivery_id = p.delivery_id END
ORDER BY p.delivery NULLS FIRST;

-- name: delivery_places
-- Gives where the deliveries of a station (or of all) take from and put to, and how they stand.
SELECT d.id AS delivery_id, d.name, t.name AS station, d.local_directory, x.endpoint_url,
       x.bucket_name, d.s3_prefix, d.enabled, s.state, s.reason, s.last_sweep_ended_at,
       s.last_sweep_complete, s.last_complete_sweep_at, n.id AS session_id,
       (SELECT (h.configuration ->> 'quiet_seconds')::float8 FROM config_history AS h
        WHERE h.delivery_id = d.id ORDER BY h.id DESC LIMIT 1) AS quiet_seconds,
       EXISTS (SELECT 1 FROM daemons AS b
               WHERE b.ended_at IS NULL AND b.heartbeat_at > now() - interval '60 seconds'
                 AND d.id = ANY(b.delivery_ids)) AS daemon_alive
FROM deliveries AS d
JOIN destinations AS x ON x.id = d.destination_id
JOIN clients AS c ON c.id = d.client_id
LEFT JOIN stations AS t ON t.id = d.station_id
LEFT JOIN delivery_status AS s ON s.delivery_id = d.id
LEFT JOIN sync_sessions AS n ON n.delivery_id = d.id AND n.state <> 'ended'
WHERE d.retired_at IS NULL
  AND (%(station)s::text IS NULL OR d.shared OR t.name = %(station)s)
  AND (%(clients)s::text[] IS NULL OR c.name = ANY(%(clients)s))
ORDER BY d.name, d.id;

-- name: pauses_of
-- Finds the pauses that hold for a delivery: its own, and that of its station.
SELECT kind, delivery_id, value, reason, set_by, set_at, until
FROM controls
WHERE kind = 'pause' AND ended_at IS NULL AND (until IS NULL OR until > now())
  AND (delivery_id = %(delivery_id)s
       OR station_id = (SELECT coalesce(d.station_id, t.id) FROM deliveries AS d
                        LEFT JOIN stations AS t ON t.name = %(station)s
                        WHERE d.id = %(delivery_id)s));

-- name: current_files
-- Finds the current versions of files by their paths.
SELECT f.id, f.path_digest, f.state
FROM file_uploads AS f
WHERE f.delivery_id = %(delivery_id)s AND f.path_digest = ANY(%(digests)s::bytea[])
  AND f.is_current;

-- name: file_versions
-- Gives the current version of a file and those before it, the newest first.
WITH RECURSIVE versions AS (
    SELECT f.*, 1 AS place FROM file_uploads AS f
    WHERE f.delivery_id = %(delivery_id)s AND f.path_digest = %(digest)s AND f.is_current
    UNION ALL
    SELECT f.*, v.place + 1 FROM versions AS v
    JOIN file_uploads AS f ON f.id = v.predecessor_id
    WHERE v.place < %(most)s
)
SELECT v.id AS upload_id, v.state::text, v.session_id, s.serial AS sensor, v.size_bytes,
       v.mtime_ns, v.ctime_ns, v.seen_at, v.enrolled_at, v.finished_at, v.object_key, v.reason,
       coalesce(q.attempts, v.attempts) AS attempts, coalesce(q.crashes, v.crashes) AS crashes,
       q.claimed_by IS NOT NULL AS claimed,
       CASE WHEN isfinite(q.next_at) AND q.next_at > now() THEN q.next_at END AS next_at,
       t.id AS taken_id, t.begun_at AS taken_begun_at, t.ended_at AS taken_ended_at,
       t.wish AS taken_wish, t.outcome AS taken_outcome,
       CASE WHEN t.moved_to IS NOT NULL THEN rtrim(t.target, '/') || '/' || t.moved_to
       END AS taken_moved_to, t.reason AS taken_reason, t.receipt_id AS taken_receipt
FROM versions AS v
JOIN sensors AS s ON s.id = v.sensor_id
LEFT JOIN upload_queue AS q ON q.upload_id = v.id
LEFT JOIN LATERAL (
    SELECT * FROM taken_files WHERE upload_id = v.id ORDER BY id DESC LIMIT 1) AS t ON true
ORDER BY v.place;

-- name: file_failures
-- Gives the failures of versions of a file, in their order.
SELECT upload_id, begun_at, failed_at, attempts, scope, error_class, message, hint, charged, final
FROM upload_failures WHERE upload_id = ANY(%(upload_ids)s) ORDER BY id;

-- name: file_retries
-- Gives who had versions of a file retried by hand.
SELECT r.upload_id, t.asked_at, t.asked_by, t.reason, t.at_once
FROM retried_files AS r JOIN retries AS t ON t.id = r.retry_id
WHERE r.upload_id = ANY(%(upload_ids)s) ORDER BY t.id;

-- name: ignored_file
-- Says why a path of a delivery is not uploaded.
SELECT reason, seen_at FROM ignored_files
WHERE delivery_id = %(delivery_id)s AND path_digest = %(digest)s;

-- name: files_counted
-- Tells from the kept counts which deliveries have a file to list at all.
SELECT delivery_id FROM (
    SELECT delivery_id, sensor_id, state, files FROM file_counts
    UNION ALL
    SELECT delivery_id, sensor_id, state, files FROM counter_deltas
) AS c
WHERE delivery_id = ANY(%(delivery_ids)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(sensor)s::text IS NULL
       OR sensor_id IN (SELECT id FROM sensors WHERE serial = %(sensor)s))
GROUP BY delivery_id HAVING sum(files) > 0;

-- name: list_failed
-- Lists quarantined files, those that failed last first.
SELECT u.id AS place, d.name AS delivery, s.serial AS sensor, f.path, 'failed' AS state,
       f.size_bytes, f.session_id, f.attempts, f.enrolled_at, f.finished_at,
       NULL::timestamptz AS next_at, u.error_class, f.reason
FROM upload_failures AS u
JOIN file_uploads AS f ON f.id = u.upload_id
JOIN deliveries AS d ON d.id = f.delivery_id
JOIN sensors AS s ON s.id = f.sensor_id
WHERE u.final AND u.delivery_id = ANY(%(delivery_ids)s) AND u.id < %(before)s
  AND f.is_current AND f.state = 'failed'
  AND (%(sensor)s::text IS NULL OR s.serial = %(sensor)s)
ORDER BY u.id DESC LIMIT %(most)s;

-- name: list_queued
-- Lists files that wait or are being uploaded, the newest first. The last error is that of the
-- attempt before, where there was one.
SELECT q.upload_id AS place, d.name AS delivery, s.serial AS sensor, f.path,
       CASE WHEN q.next_at = 'infinity' THEN 'uploading' ELSE 'pending' END AS state,
       f.size_bytes, f.session_id, q.attempts, f.enrolled_at, f.finished_at,
       CASE WHEN isfinite(q.next_at) AND q.next_at > now() THEN q.next_at END AS next_at,
       e.error_class, e.message AS reason
FROM upload_queue AS q
JOIN file_uploads AS f ON f.id = q.upload_id
JOIN deliveries AS d ON d.id = f.delivery_id
JOIN sensors AS s ON s.id = f.sensor_id
LEFT JOIN LATERAL (
    SELECT error_class, message FROM upload_failures WHERE upload_id = q.upload_id
    ORDER BY id DESC LIMIT 1) AS e ON true
WHERE q.delivery_id = ANY(%(delivery_ids)s) AND q.upload_id < %(before)s
  AND (q.next_at = 'infinity') = (%(state)s = 'uploading')
  AND (%(sensor)s::text IS NULL OR s.serial = %(sensor)s)
ORDER BY q.upload_id DESC LIMIT %(most)s;

-- name: list_files
-- Lists files of any other state, or of all, the newest first. Of few deliveries each is read by
-- itself, the newest of many among all files: what is rare in many is found there sooner. A delivery
-- is asked for by a range of (delivery, file), so that its own index is read and not that of all files.
SELECT f.id AS place, d.name AS delivery, s.serial AS sensor, f.path,
       CASE WHEN q.next_at = 'infinity' THEN 'uploading' ELSE f.state::text END AS state,
       f.size_bytes, f.session_id, coalesce(q.attempts, f.attempts) AS attempts, f.enrolled_at,
       f.finished_at,
       CASE WHEN isfinite(q.next_at) AND q.next_at > now() THEN q.next_at END AS next_at,
       CASE WHEN f.state = 'failed' THEN (
           SELECT error_class FROM upload_failures WHERE upload_id = f.id
           ORDER BY id DESC LIMIT 1) END AS error_class,
       f.reason
FROM (
    SELECT * FROM (
        (SELECT u.* FROM unnest(%(delivery_ids)s::bigint[]) AS y (id)
         CROSS JOIN LATERAL (
             SELECT * FROM file_uploads AS v
             WHERE v.delivery_id >= y.id AND (v.delivery_id, v.id) < (y.id, %(before)s)
               AND (%(state)s::text IS NULL OR v.state = %(state)s::upload_state)
               AND (%(sensor)s::text IS NULL
                    OR v.sensor_id IN (SELECT id FROM sensors WHERE serial = %(sensor)s))
             ORDER BY v.delivery_id DESC, v.id DESC LIMIT %(most)s) AS u
         WHERE %(few)s)
        UNION ALL
        (SELECT * FROM file_uploads AS v
         WHERE v.delivery_id = ANY(%(delivery_ids)s) AND v.id < %(before)s
           AND (%(state)s::text IS NULL OR v.state = %(state)s::upload_state)
           AND (%(sensor)s::text IS NULL
                OR v.sensor_id IN (SELECT id FROM sensors WHERE serial = %(sensor)s))
           AND NOT %(few)s
         ORDER BY v.id DESC LIMIT %(most)s)) AS either
    ORDER BY id DESC LIMIT %(most)s) AS f
JOIN deliveries AS d ON d.id = f.delivery_id
JOIN sensors AS s ON s.id = f.sensor_id
LEFT JOIN upload_queue AS q ON q.upload_id = f.id
ORDER BY f.id DESC;

-- name: list_sessions
-- Lists sessions, the newest first, or the one that is asked for. What a running one has so far
-- comes from the kept counts.
SELECT n.id AS session_id, n.delivery_id, d.name AS delivery, n.state::text, n.origin, n.started_by, n.started_at,
       n.ended_at,
       CASE WHEN n.state = 'ended' THEN jsonb_build_object(
           'uploaded', jsonb_build_array(n.files_uploaded, n.bytes_uploaded),
           'skipped', jsonb_build_array(n.files_skipped, NULL),
           'failed', jsonb_build_array(n.files_failed, NULL),
           'superseded', jsonb_build_array(n.files_superseded, NULL),
           'vanished', jsonb_build_array(n.files_vanished, NULL))
       ELSE (SELECT coalesce(jsonb_object_agg(t.state, jsonb_build_array(t.files, t.bytes)), '{}')
             FROM (SELECT u.state, sum(u.files) AS files, sum(u.bytes) AS bytes
                   FROM (SELECT state, files, bytes FROM session_counts WHERE session_id = n.id
                         UNION ALL
                         SELECT state, files, bytes FROM counter_deltas WHERE session_id = n.id
                        ) AS u
                   GROUP BY u.state) AS t) END AS counts,
       CASE WHEN n.state = 'ended' THEN n.bytes_total END AS bytes_total
FROM (
    SELECT n.* FROM sync_sessions AS n
    WHERE CASE WHEN %(session_id)s::bigint IS NULL THEN n.delivery_id = ANY(%(delivery_ids)s)
               ELSE n.id = %(session_id)s END
      AND n.id < %(before)s
    ORDER BY n.id DESC LIMIT %(most)s) AS n
JOIN deliveries AS d ON d.id = n.delivery_id
ORDER BY n.id DESC;

-- name: session_troubles
-- Counts what failed in a session, by what it was.
SELECT u.error_class, count(*), min(f.path)
FROM file_uploads AS f
JOIN upload_failures AS u ON u.upload_id = f.id AND u.final
WHERE f.session_id = %(session_id)s AND f.state IN ('failed', 'superseded')
GROUP BY u.error_class ORDER BY count(*) DESC, u.error_class LIMIT %(most)s;

-- name: one_moment
-- Makes all that a transaction reads be of one moment, and keeps it from writing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: moment
-- Says which moment a transaction sees.
SELECT now();

-- name: season_standings
-- Tells how every delivery of a scope stands; an array that is empty leaves a name open.
SELECT client, project, cycle, delivery, station, bucket, state, reason,
       daemon_alive, stored AS stored_files, stored_bytes, waiting AS waiting_files,
       waiting_bytes, settling AS settling_files, failed AS failed_files, failed_bytes,
       mismatched AS mismatched_objects, last_success_at, last_complete_sweep_at,
       last_sweep_problem, files_per_second, eta
FROM grafana.delivery_progress
WHERE (%(clients)s = '{}' OR client = ANY(%(clients)s))
  AND (%(projects)s = '{}' OR project = ANY(%(projects)s))
  AND (%(cycles)s = '{}' OR cycle = ANY(%(cycles)s))
ORDER BY client, project, cycle, delivery, station;

-- name: season_names
-- Names all clients, projects and cycles that deliveries have, for whoever misspelt one.
SELECT DISTINCT client, project, cycle FROM grafana.delivery_progress;

-- name: season_stores
-- Tells what each cycle of a scope holds, by type of file.
SELECT client, project, cycle, file_type, sum(files)::bigint, sum(bytes)::bigint
FROM grafana.cycle_comparison
WHERE (%(clients)s = '{}' OR client = ANY(%(clients)s))
  AND (%(projects)s = '{}' OR project = ANY(%(projects)s))
  AND (%(cycles)s = '{}' OR cycle = ANY(%(cycles)s))
GROUP BY client, project, cycle, file_type;

-- name: season_cycles
-- Lists the cycles of a scope that have files, those with the newest first, with their sensors.
SELECT client, project, cycle, count(*)
FROM grafana.sensor_coverage
WHERE (%(clients)s = '{}' OR client = ANY(%(clients)s))
  AND (%(projects)s = '{}' OR project = ANY(%(projects)s))
  AND (%(cycles)s = '{}' OR cycle = ANY(%(cycles)s))
GROUP BY client, project, cycle
ORDER BY max(last_seen) DESC, client, project, cycle;

-- name: season_days
-- Tells what each sensor of one cycle has on each day.
SELECT sensor, day, files, bytes, failed
FROM grafana.sensor_days
WHERE client = %(client)s AND project = %(project)s AND cycle = %(cycle)s;

-- name: season_failures
-- Lists quarantined files of a scope, the newest first.
SELECT f.client, f.project, f.delivery, f.sensor, f.path, f.error_class, f.error, f.attempts,
       f.failed_at
FROM grafana.recent_failures AS f
WHERE (%(clients)s = '{}' OR f.client = ANY(%(clients)s))
  AND (%(projects)s = '{}' OR f.project = ANY(%(projects)s))
  AND (%(cycles)s = '{}' OR EXISTS (
      SELECT 1 FROM grafana.delivery_progress AS d
      WHERE (d.client, d.project, d.delivery) = (f.client, f.project, f.delivery)
        AND d.cycle = ANY(%(cycles)s)))
ORDER BY f.failed_at DESC, f.path
LIMIT %(most)s;

-- name: hold_run
-- Takes hold of a folder for a run by hand, until its connection ends; false: another run has it.
-- Where a connection of this run has it already nothing is taken. Which connections those are is told
-- by their numbers and the server's start: another start gives the same numbers to others.
SELECT CASE WHEN EXISTS (
           SELECT 1 FROM pg_locks AS l
           JOIN unnest(%(pids)s::int[], %(server_starts)s::timestamptz[]) AS ours(pid, server_start)
             ON ours.pid = l.pid AND ours.server_start = pg_postmaster_start_time()
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND l.classid = (hashtext('sensordrop.batch')::bigint & 4294967295)::oid
             AND l.objid = (hashtext(%(folder)s)::bigint & 4294967295)::oid)
       THEN true
       ELSE pg_try_advisory_lock(hashtext('sensordrop.batch'), hashtext(%(folder)s)) END,
       pg_backend_pid(), pg_postmaster_start_time();

-- name: looked_after_by
-- Tells whether a living daemon looks after a delivery.
SELECT EXISTS (SELECT 1 FROM daemons
               WHERE ended_at IS NULL AND heartbeat_at > now() - interval '60 seconds'
                 AND origin = 'daemon' AND %(delivery_id)s = ANY(delivery_ids));

-- name: ever_looked_after
-- Tells whether a daemon ever looked after a delivery: its next start would go on with it.
SELECT EXISTS (SELECT 1 FROM daemons
               WHERE origin = 'daemon' AND %(delivery_id)s = ANY(delivery_ids));

-- name: left_to_do
-- Tells whether any file of a delivery is not finished, and whether there is any among them that is
-- not held because it is missing. Claimed ones are at infinity.
SELECT EXISTS (SELECT 1 FROM upload_queue WHERE delivery_id = %(delivery_id)s),
       EXISTS (SELECT 1 FROM upload_queue
               WHERE delivery_id = %(delivery_id)s AND next_at < '9999-01-01')
       OR EXISTS (SELECT 1 FROM upload_queue
                  WHERE delivery_id = %(delivery_id)s AND next_at = 'infinity');

-- name: delivery_report
-- Gives what a daemon published of a delivery last, and how its last sweep ended.
SELECT state, reason, settling, last_sweep_ended_at,
       CASE WHEN NOT last_sweep_complete
            THEN coalesce(last_sweep_problem, 'the folder could not be listed to its end') END
FROM delivery_status WHERE delivery_id = %(delivery_id)s;

-- name: forget_own_pause
-- Ends the pause that a program set because file after file failed: somebody looks after it now.
UPDATE controls SET ended_at = now(), ended_by = %(ended_by)s
WHERE ended_at IS NULL AND kind = 'pause' AND delivery_id = %(delivery_id)s AND set_by = %(set_by)s;

-- name: newest_settings
-- Gives the configuration that a delivery was last used with, and of which station.
SELECT h.configuration, s.name
FROM config_history AS h JOIN stations AS s ON s.id = h.station_id
WHERE h.delivery_id = %(delivery_id)s ORDER BY h.id DESC LIMIT 1;

-- name: failed_now
-- Counts what is in quarantine in a delivery, by what it was, the most frequent first.
SELECT u.error_class, count(*), min(f.path)
FROM upload_failures AS u JOIN file_uploads AS f ON f.id = u.upload_id
WHERE u.delivery_id = %(delivery_id)s AND u.final AND f.is_current AND f.state = 'failed'
GROUP BY u.error_class ORDER BY count(*) DESC, u.error_class LIMIT %(most)s;

-- name: work_sizes
-- Adds up the bytes of what a comparison would put on the books.
SELECT coalesce(sum(size_bytes), 0)::bigint FROM work WHERE reason IS NULL;

-- name: forget_endpoints
-- Whom a delivery tells is written down anew at each start.
DELETE FROM delivery_endpoints WHERE delivery_id = %(delivery_id)s;

-- name: insert_endpoint
-- Writes down whom a delivery tells something.
INSERT INTO delivery_endpoints (delivery_id, kind, endpoint, digest)
VALUES (%(delivery_id)s, %(kind)s, %(endpoint)s, %(digest)s);

-- name: repoint_letters
-- What was not told yet goes to where the delivery's configuration points now.
UPDATE outbox AS o
SET endpoint = e.endpoint, endpoint_digest = e.digest, next_at = now(), asked_at = now()
FROM delivery_endpoints AS e, deliveries AS d, deliveries AS f
WHERE d.id = %(delivery_id)s AND e.delivery_id = d.id
  AND f.name = d.name AND f.station_id IS NOT DISTINCT FROM d.station_id
  AND o.delivery_id = f.id AND o.kind = e.kind AND o.state = 'waiting'
  AND o.endpoint_digest <> e.digest AND o.endpoint_digest = ANY(%(former)s)
  AND NOT EXISTS (SELECT 1 FROM outbox AS t WHERE t.session_id = o.session_id
                  AND t.kind = o.kind AND t.endpoint_digest = e.digest);

-- name: forget_notifications
-- Nobody is notified any more of what the configuration does not ask for.
DELETE FROM outbox AS o
USING deliveries AS d, deliveries AS f
WHERE d.id = %(delivery_id)s
  AND f.name = d.name AND f.station_id IS NOT DISTINCT FROM d.station_id
  AND o.delivery_id = f.id AND o.kind <> 'registration' AND o.state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM delivery_endpoints AS e
                  WHERE e.delivery_id = d.id AND e.kind = o.kind AND e.digest = o.endpoint_digest);

-- name: failures_to_tell
-- Gives the running sessions of files that were quarantined just now, where somebody wants to hear
-- of failures and was not told of one yet; with one of the files and what is wrong with it.
SELECT DISTINCT ON (s.id) s.id, e.endpoint, e.digest, f.path || ': ' || coalesce(f.reason, '')
FROM file_uploads AS f
JOIN sync_sessions AS s ON s.id = f.session_id AND s.state <> 'ended'
JOIN delivery_endpoints AS e ON e.delivery_id = s.delivery_id AND e.kind = 'failure'
WHERE f.id = ANY(%(upload_ids)s) AND f.state = 'failed'
  AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.session_id = s.id AND o.kind = 'failure')
ORDER BY s.id, f.id;

-- name: trouble_to_tell
-- Gives the running session of a delivery, where somebody wants to hear of failures and was not told
-- of one yet.
SELECT s.id, e.endpoint, e.digest
FROM sync_sessions AS s
JOIN delivery_endpoints AS e ON e.delivery_id = s.delivery_id AND e.kind = 'failure'
WHERE s.delivery_id = %(delivery_id)s AND s.state <> 'ended'
  AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.session_id = s.id AND o.kind = 'failure');

-- name: endpoints_of
-- Whom a delivery tells what.
SELECT kind, endpoint, digest FROM delivery_endpoints WHERE delivery_id = %(delivery_id)s;

-- name: write_letters
-- Writes what is to be told about a session into the outbox, each at most once. The body is what is
-- sent, letter by letter, however often: a key that comes again must come with the same body. Another
-- address gets what the first one got, key and all: it may lead to the same receiver. A session that
-- runs is told with the kept counts, and without its sensors: nothing is counted while it works.
INSERT INTO outbox (delivery_id, session_id, kind, endpoint, endpoint_digest,
                    idempotency_key, receipt_digest, manifest_location, body)
SELECT s.delivery_id, s.id, w.kind, w.endpoint, w.digest, coalesce(g.idempotency_key, gen_random_uuid()),
       coalesce(g.receipt_digest, %(receipt_digest)s),
       coalesce(g.manifest_location, %(manifest_location)s),
       coalesce(g.body, json_build_object(
           'event', w.kind,
           'bucket_name', b.bucket_name,
           's3_prefix', d.s3_prefix,
           'total_files', coalesce(r.total, s.files_total),
           'files_uploaded', coalesce(r.uploaded, s.files_uploaded),
           'session_id', s.id,
           'station', coalesce(t.name, ''),
           'delivery', d.name,
           'client', c.name,
           'project', p.name,
           'cycle', y.name,
           'files', json_build_object(
               'uploaded', coalesce(r.uploaded, s.files_uploaded),
               'skipped', coalesce(r.skipped, s.files_skipped),
               'failed', coalesce(r.failed, s.files_failed), 'superseded', s.files_superseded,
               'vanished', s.files_vanished),
           'total_bytes', coalesce(r.bytes, s.bytes_total),
           'bytes_uploaded', s.bytes_uploaded,
           'sensors', n.sensors,
           'started_at', to_char(s.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
           'ended_at', to_char(s.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
           'reason', %(reason)s::text,
           'receipt_digest', %(receipt_digest)s::text,
           'manifest_location', %(manifest_location)s::text)::text)
FROM sync_sessions AS s
JOIN deliveries AS d ON d.id = s.delivery_id
JOIN destinations AS b ON b.id = d.destination_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN cycles AS y ON y.id = d.cycle_id
LEFT JOIN stations AS t ON t.id = d.station_id
LEFT JOIN running_sessions AS r ON r.session_id = s.id AND s.state <> 'ended'
CROSS JOIN unnest(%(kinds)s::text[], %(endpoints)s::text[], %(digests)s::text[])
           AS w (kind, endpoint, digest)
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(json_build_object(
               'sensor', x.serial, 'files', x.files, 'bytes', x.bytes,
               'files_uploaded', x.uploaded, 'files_failed', x.failed) ORDER BY x.serial), '[]')
           AS sensors
    FROM (SELECT r.serial, count(*) AS files, sum(f.size_bytes) AS bytes,
                 count(*) FILTER (WHERE f.state = 'uploaded') AS uploaded,
                 count(*) FILTER (WHERE f.state = 'failed') AS failed
          FROM file_uploads AS f JOIN sensors AS r ON r.id = f.sensor_id
          WHERE f.session_id = s.id AND s.state = 'ended'
          GROUP BY r.serial) AS x) AS n
LEFT JOIN LATERAL (SELECT f.idempotency_key, f.receipt_digest, f.manifest_location, f.body
                   FROM outbox AS f WHERE f.session_id = s.id AND f.kind = w.kind
                   ORDER BY f.id LIMIT 1) AS g ON true
WHERE s.id = %(session_id)s
ON CONFLICT (session_id, kind, endpoint_digest) DO NOTHING;

-- name: lease_letter
-- Leases the letter that is due for longest, of those that this program's deliveries know how to
-- send; `busy` are endpoints that are being told something already. What a retired delivery left
-- belongs to the one that has its name. A dead program's leases are void at once, and so is what
-- lies further in the time to come than any wait: the clock was ahead then.
WITH due AS (
    SELECT o.id, w.delivery_id AS current_id
    FROM outbox AS o
    JOIN deliveries AS f ON f.id = o.delivery_id
    JOIN (unnest(%(delivery_ids)s::bigint[], %(kinds)s::text[], %(digests)s::text[])
              AS w (delivery_id, kind, digest)
          JOIN deliveries AS d ON d.id = w.delivery_id)
      ON d.name = f.name AND d.station_id IS NOT DISTINCT FROM f.station_id
     AND w.kind = o.kind AND w.digest = o.endpoint_digest
    WHERE o.state = 'waiting' AND o.endpoint_digest <> ALL(%(busy)s)
      AND (%(session_id)s::bigint IS NULL OR o.session_id = %(session_id)s)
      AND (o.next_at <= now() OR o.next_at > now() + interval '2 days')
      AND (o.leased_until IS NULL OR o.leased_until < now()
           OR o.leased_until > now() + interval '1 hour'
           OR EXISTS (SELECT 1 FROM daemons AS b
                      WHERE b.id = o.leased_by AND b.ended_at IS NOT NULL))
    ORDER BY o.next_at, o.id LIMIT 1
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE outbox AS o
SET lease_number = o.lease_number + 1, leased_by = %(daemon_id)s,
    leased_until = now() + make_interval(secs => %(lease_seconds)s)
FROM due
WHERE o.id = due.id
RETURNING o.id, due.current_id, o.session_id, o.kind, o.endpoint, o.endpoint_digest,
          o.idempotency_key::text, o.body, o.lease_number, o.attempts,
          extract(epoch FROM now() - o.asked_at)::float8;

-- name: note_answer
-- Writes down how an attempt to send a letter ended, where the lease still holds. The number rises
-- with it, so that it is not written down twice.
WITH noted AS (
    UPDATE outbox
    SET state = %(state)s, attempts = attempts + 1, lease_number = lease_number + 1,
        leased_by = NULL, leased_until = NULL,
        next_at = now() + make_interval(secs => %(retry_seconds)s),
        told_at = CASE WHEN %(state)s = 'told' THEN now() ELSE told_at END
    WHERE id = %(letter_id)s AND lease_number = %(lease_number)s
    RETURNING id
)
INSERT INTO outbox_attempts (outbox_id, attempted_at, status, answer, problem)
SELECT id, now() - make_interval(secs => %(took_seconds)s), %(status)s, %(answer)s, %(problem)s
FROM noted
RETURNING outbox_id;

-- name: forget_old_answers
-- Keeps the newest attempts of a letter.
DELETE FROM outbox_attempts
WHERE outbox_id = %(letter_id)s
  AND id <= (SELECT id FROM outbox_attempts WHERE outbox_id = %(letter_id)s
             ORDER BY id DESC OFFSET %(kept)s LIMIT 1);

-- name: registration_of
-- Says whether a session has ended, and whom its delivery tells of it: the one that has its name.
SELECT s.state = 'ended', s.delivery_id, e.endpoint, e.digest
FROM sync_sessions AS s
JOIN deliveries AS f ON f.id = s.delivery_id
LEFT JOIN deliveries AS d ON d.name = f.name AND d.retired_at IS NULL
                         AND d.station_id IS NOT DISTINCT FROM f.station_id
LEFT JOIN delivery_endpoints AS e ON e.delivery_id = d.id AND e.kind = 'registration'
WHERE s.id = %(session_id)s;

-- name: ask_letter_again
-- Has a registration told once more, or now instead of later, under the key that it has. What is
-- being sent right now goes on.
UPDATE outbox
SET state = 'waiting', attempts = 0, next_at = now(), asked_at = now()
WHERE session_id = %(session_id)s AND kind = 'registration' AND endpoint_digest = %(digest)s;

-- name: letters_of
-- Tells what others were told of a session, and what they answered last.
SELECT o.kind, o.endpoint, o.endpoint_digest AS digest, o.idempotency_key::text, o.state, o.attempts, o.asked_at,
       CASE WHEN o.state = 'waiting' THEN o.next_at END AS next_at, o.told_at,
       a.status, coalesce(a.answer, '') AS answer, a.problem
FROM outbox AS o
LEFT JOIN LATERAL (SELECT status, answer, problem FROM outbox_attempts
                   WHERE outbox_id = o.id ORDER BY id DESC LIMIT 1) AS a ON true
WHERE o.session_id = %(session_id)s
ORDER BY o.id;

-- name: vitals_letters
-- Tells for each delivery how many letters wait, since when, and how many were given up lately. A
-- notification is yesterday's news: nobody has it told again, so it is soon forgotten.
SELECT d.id, count(*) FILTER (WHERE o.state = 'waiting'),
       count(*) FILTER (WHERE o.state = 'failed' AND o.asked_at > now()
                        - CASE o.kind WHEN 'registration' THEN interval '30 days'
                                      ELSE interval '1 day' END),
       extract(epoch FROM min(o.asked_at) FILTER (WHERE o.state = 'waiting'))::float8
FROM deliveries AS d
JOIN deliveries AS f ON f.name = d.name AND f.station_id IS NOT DISTINCT FROM d.station_id
JOIN outbox AS o ON o.delivery_id = f.id AND o.state <> 'told'
WHERE d.id = ANY(%(delivery_ids)s)
GROUP BY d.id;

-- name: give_letter_back
-- Ends a lease without an attempt: the program stops.
UPDATE outbox SET lease_number = lease_number + 1, leased_by = NULL, leased_until = NULL
WHERE id = %(letter_id)s AND lease_number = %(lease_number)s;

-- name: what_backends_do
-- Tells what the server's processes of this role are at work on, and since when: whoever waits for an
-- answer learns whether there is one to wait for. Of other roles' processes it is not said.
SELECT pid, state = 'active', state_change, coalesce(wait_event_type || '/' || wait_event, '')
FROM pg_stat_activity
WHERE state IS NOT NULL AND pid <> pg_backend_pid();

-- name: hold_taking
-- Takes hold of a delivery for taking its files away, until it is let go or the connection ends;
-- false: somebody else has it.
SELECT pg_try_advisory_lock(hashtext('sensordrop.taking'), %(delivery_id)s::int);

-- name: release_taking
-- Lets go of it.
SELECT pg_advisory_unlock(hashtext('sensordrop.taking'), %(delivery_id)s::int);

-- name: open_takings
-- Gives the files whose taking away was begun and not ended.
SELECT t.id, f.path_bytes, f.path, f.size_bytes, f.mtime_ns, f.ctime_ns, f.sha256, t.wish, t.target
FROM taken_files AS t JOIN file_uploads AS f ON f.id = t.upload_id
WHERE t.delivery_id = %(delivery_id)s AND t.ended_at IS NULL
ORDER BY t.id;

-- name: has_receipt_files
-- Tells whether this connection still has what its receipt was made from.
SELECT to_regclass('pg_temp.receipt_files') IS NOT NULL;

-- name: make_taking_tables
-- Makes this connection's private table of what a folder had when its receipt was made. What may be
-- taken away has the number of its upload.
CREATE TEMP TABLE IF NOT EXISTS taking_files (
    n           bigint,
    folder      text,
    path        text,
    path_bytes  bytea,
    entry_type  text,
    size_bytes  bigint,
    mtime_ns    bigint,
    ctime_ns    bigint,
    upload_id   bigint
);
CREATE INDEX IF NOT EXISTS taking_files_by_folder ON taking_files (folder, n);
CREATE INDEX IF NOT EXISTS taking_files_by_upload ON taking_files (upload_id);
TRUNCATE taking_files;

-- name: fill_taking_files
-- Takes over what the receipt listed. May be taken away: a regular file that is as it was stored,
-- whose object was found the same, and that is on the books as the receipt had it.
INSERT INTO taking_files
    (n, folder, path, path_bytes, entry_type, size_bytes, mtime_ns, ctime_ns, upload_id)
SELECT r.n, array_to_string(
           p.parts[1:least(%(sensor_level)s::int, cardinality(p.parts) - 1)], '/'),
       r.path, r.path_bytes, r.entry_type, r.size_bytes, r.mtime_ns, r.ctime_ns, f.id
FROM receipt_files AS r
CROSS JOIN LATERAL (SELECT string_to_array(r.path, '/') AS parts OFFSET 0) AS p
LEFT JOIN file_uploads AS f
    ON f.delivery_id = %(delivery_id)s AND f.is_current
   AND f.path_digest = substring(sha256(r.path_bytes) FOR 16)
   AND r.entry_type = 'f' AND r.result = 'same'
   AND r.state IN ('uploaded', 'skipped') AND f.state IN ('uploaded', 'skipped')
   AND f.sha256 = r.sha256 AND f.object_key = r.object_key
   AND (f.size_bytes, f.mtime_ns, f.ctime_ns) = (r.size_bytes, r.mtime_ns, r.ctime_ns)
WHERE r.entry_type IS NOT NULL;

-- name: taking_folders
-- Gives the folders that have files to be taken, with one of their paths; the root last.
SELECT folder, min(path_bytes), count(*) FROM taking_files
WHERE upload_id IS NOT NULL GROUP BY folder ORDER BY folder = '', folder COLLATE "C";

-- name: taking_candidates
-- Gives the next files of a folder that may be taken, as they are on the books now.
SELECT f.id, f.delivery_id, f.path_bytes, f.path, f.object_key, f.size_bytes, f.sha256, f.etag,
       f.checksum_sha256, f.is_current, t.n, f.mtime_ns, f.ctime_ns,
       coalesce(f.store_check, 'none') <> 'none' AND coalesce(f.etag, '') <> ''
       AND NOT coalesce(k.method = 'read-back' AND k.result <> 'same', false)
FROM taking_files AS t
JOIN file_uploads AS f
    ON f.id = t.upload_id AND f.is_current AND f.state IN ('uploaded', 'skipped')
   AND (f.size_bytes, f.mtime_ns, f.ctime_ns) = (t.size_bytes, t.mtime_ns, t.ctime_ns)
LEFT JOIN object_checks AS k ON k.upload_id = f.id
WHERE t.folder = %(folder)s AND t.n > %(after)s
ORDER BY t.n LIMIT %(most)s;

-- name: changed_in_folder
-- Finds an entry of a folder that is not as the receipt had it: listed now and not then, or the other
-- way round, or with another size or time. `before` stands before each listed path.
SELECT coalesce(t.path, l.path),
       CASE WHEN t.path IS NULL THEN 'it came since'
            WHEN l.path IS NULL THEN 'somebody else removed it'
            ELSE 'it changed' END
FROM (SELECT * FROM taking_files WHERE folder = %(folder)s) AS t
FULL JOIN (
    SELECT %(before)s::text || named.path AS path, %(before_bytes)s::bytea || e.path_bytes AS path_bytes,
           e.entry_type, e.size_bytes, e.mtime_ns, e.ctime_ns
    FROM listing AS e
    CROSS JOIN LATERAL (
        SELECT CASE WHEN e.special <> '' THEN e.special
                    ELSE convert_from(e.path_bytes, 'UTF8') END AS path
        OFFSET 0
    ) AS named
    WHERE %(whole)s OR position('\x2f'::bytea IN e.path_bytes) = 0
) AS l ON l.path_bytes = t.path_bytes
WHERE (t.entry_type, t.size_bytes, t.mtime_ns, t.ctime_ns)
      IS DISTINCT FROM (l.entry_type, l.size_bytes, l.mtime_ns, l.ctime_ns)
  AND NOT coalesce(t.path, l.path) COLLATE "C" ~ %(junk)s
LIMIT 1;

-- name: note_taking
-- Writes down that files are about to be taken away.
INSERT INTO taken_files (upload_id, delivery_id, receipt_id, wish, target)
SELECT u.id, %(delivery_id)s, %(receipt)s, %(wish)s, %(target)s
FROM unnest(%(upload_ids)s::bigint[]) AS u(id)
RETURNING upload_id, id;

-- name: end_taking
-- Writes down what became of files, once; what is no longer there is forgotten in this connection's
-- own table.
UPDATE taken_files AS t
SET ended_at = now(), outcome = b.outcome, moved_to = b.moved_to, reason = b.reason
FROM jsonb_to_recordset(%(became)s) AS b (id bigint, outcome text, moved_to text, reason text)
WHERE t.id = b.id AND t.ended_at IS NULL
RETURNING t.upload_id, t.outcome;

-- name: has_taking_files
-- Tells whether this connection has noted what is to be taken.
SELECT to_regclass('pg_temp.taking_files') IS NOT NULL;

-- name: forget_taken
-- What was taken is no longer expected in the folder.
DELETE FROM taking_files WHERE upload_id = ANY(%(upload_ids)s::bigint[]);
