-- The ledger's schema as it stands after all migrations, for people to read.
-- A test holds it against sql/migrations/: what this file builds and what they build is the same.
-- docs/DATABASE_SCHEMA.md tells the same story in prose. The views of the schema `grafana` come on
-- top of it; each has a file in sql/views/.

-- Which migrations this ledger has had. A number above the program's newest is refused.
CREATE TABLE schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- Where one version of one file stands. A file that is being uploaded is `pending` here and
-- carries a claim in upload_queue.
--   (seen) ─────▶ pending      enrolled, or seen again after it had vanished
--   pending ────▶ uploaded     its bytes are stored and the store confirmed them
--   pending ────▶ skipped      the same content was already stored under the same key
--   pending ────▶ failed       quarantined: a permanent failure, or its attempts are used up
--   pending ────▶ vanished     gone from disk before it was stored
--   uploaded, skipped, failed ▶ superseded   its file changed; the successor is on the books
--   superseded ─▶ uploaded, skipped          only the file's times had changed
--   failed ─────▶ pending      retried by hand while its session runs
--   failed ─────▶ superseded   retried by hand after that; the successor is on the books
--   vanished ───▶ pending      it is back while its session runs
--   vanished ───▶ superseded   it is back after that; the successor is on the books
CREATE TYPE upload_state AS ENUM
    ('pending', 'uploaded', 'skipped', 'failed', 'superseded', 'vanished');

-- What a file holds, by its extension.
CREATE TYPE file_kind AS ENUM ('audio', 'image', 'video', 'sidecar', 'other');

-- A session goes open → verifying → ended.
CREATE TYPE session_state AS ENUM ('open', 'verifying', 'ended');

-- Companies that own data. Configuration adds them and never deletes one.
CREATE TABLE clients (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL UNIQUE
);

-- A client's units of work.
CREATE TABLE projects (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id  bigint NOT NULL REFERENCES clients,
    name       text NOT NULL,
    UNIQUE (client_id, name)
);

-- A project's rounds of field collection.
CREATE TABLE cycles (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id  bigint NOT NULL REFERENCES projects,
    name        text NOT NULL,
    UNIQUE (project_id, name)
);

-- Recorders and cameras by serial number: the folder they were dumped into.
-- Files directly under a delivery's root belong to the sensor ''.
CREATE TABLE sensors (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id  bigint NOT NULL REFERENCES projects,
    serial      text NOT NULL,
    UNIQUE (project_id, serial)
);

-- Places that keep objects. endpoint_url is '' for Amazon's own.
CREATE TABLE destinations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type          text NOT NULL DEFAULT 's3' CHECK (type IN ('s3')),
    endpoint_url  text NOT NULL,
    bucket_name   text NOT NULL,
    aws_region    text,
    UNIQUE (type, endpoint_url, bucket_name)
);

-- Hosts that run daemons. The name is the configuration's `station`.
CREATE TABLE stations (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL UNIQUE
);

-- One row for every start of a program that claims work. Its claims are good while its heartbeat
-- is fresh; instance names its state directory, so that a successor knows its predecessor (of a run
-- by hand: its folder). delivery_ids are the deliveries that it looks after.
CREATE TABLE daemons (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id    bigint NOT NULL REFERENCES stations,
    instance      uuid NOT NULL,
    origin        text NOT NULL DEFAULT 'daemon' CHECK (origin IN ('daemon', 'batch')),
    version       text NOT NULL,
    pid           integer NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    heartbeat_at  timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    delivery_ids  bigint[] NOT NULL DEFAULT '{}',
    -- Since when it works with its configuration; and, where it was given another one since that it
    -- could not use: when, and what was wrong.
    configured_at   timestamptz NOT NULL DEFAULT now(),
    refused_at      timestamptz,
    refused_problem text
);

-- Finds predecessors, and daemons whose heartbeat died.
CREATE INDEX daemons_running ON daemons (instance) WHERE ended_at IS NULL;

-- Drop folders. A delivery that is pointed at another client, project, cycle, bucket or prefix
-- is retired, and a new row of the same name begins: what was stored where stays true.
CREATE TABLE deliveries (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id        bigint REFERENCES stations,
    name              text NOT NULL,
    kind              text NOT NULL DEFAULT 'folder' CHECK (kind IN ('folder')),
    shared            boolean NOT NULL DEFAULT false,
    client_id         bigint NOT NULL REFERENCES clients,
    project_id        bigint NOT NULL REFERENCES projects,
    cycle_id          bigint NOT NULL REFERENCES cycles,
    destination_id    bigint NOT NULL REFERENCES destinations,
    s3_prefix         text NOT NULL,
    local_directory   text NOT NULL,
    sensor_level      integer NOT NULL DEFAULT 1,
    enabled           boolean NOT NULL DEFAULT true,
    selection_digest  text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    retired_at        timestamptz,
    CHECK (shared = (station_id IS NULL))
);

-- A delivery is known by (station, name); a shared one by its name alone.
CREATE UNIQUE INDEX deliveries_by_station ON deliveries (station_id, name)
    WHERE retired_at IS NULL AND NOT shared;
-- The latter.
CREATE UNIQUE INDEX deliveries_shared ON deliveries (name)
    WHERE retired_at IS NULL AND shared;

-- What a delivery is doing right now, as its daemon last said.
CREATE TABLE delivery_status (
    delivery_id              bigint PRIMARY KEY REFERENCES deliveries,
    state                    text NOT NULL,
    reason                   text,
    settling                 bigint NOT NULL DEFAULT 0,
    updated_at               timestamptz NOT NULL DEFAULT now(),
    last_sweep_started_at    timestamptz,
    last_sweep_ended_at      timestamptz,
    last_sweep_complete      boolean,
    last_sweep_problem       text,
    last_sweep_files         bigint,
    last_complete_sweep_at   timestamptz
) WITH (fillfactor = 50);

-- Every configuration that was used. A change adds a row, a restart without one adds none.
CREATE TABLE config_history (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id     bigint NOT NULL REFERENCES stations,
    delivery_id    bigint REFERENCES deliveries,
    digest         text NOT NULL,
    configuration  jsonb NOT NULL,
    used_from      timestamptz NOT NULL DEFAULT now()
);

-- Finds the newest configuration of a delivery (or of the daemon itself, where it is null).
CREATE INDEX config_history_newest ON config_history (station_id, delivery_id, id DESC);

-- Numbered bursts of work on a delivery. While a session is `verifying` its receipt is made; whatever
-- comes into it opens it again. receipt_problem: why it ended without the receipt that was wanted.
-- The counts are written when the session ends and add up
-- to the rows of file_uploads that carry its number.
CREATE TABLE sync_sessions (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id       bigint NOT NULL REFERENCES deliveries,
    state             session_state NOT NULL DEFAULT 'open',
    origin            text NOT NULL DEFAULT 'daemon',
    started_by        text NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now(),
    ended_at          timestamptz,
    files_total       bigint NOT NULL DEFAULT 0,
    files_uploaded    bigint NOT NULL DEFAULT 0,
    files_skipped     bigint NOT NULL DEFAULT 0,
    files_failed      bigint NOT NULL DEFAULT 0,
    files_superseded  bigint NOT NULL DEFAULT 0,
    files_vanished    bigint NOT NULL DEFAULT 0,
    bytes_total       bigint NOT NULL DEFAULT 0,
    bytes_uploaded    bigint NOT NULL DEFAULT 0,
    receipt_problem   text
);

-- A delivery has at most one session that has not ended.
CREATE UNIQUE INDEX sync_sessions_running ON sync_sessions (delivery_id) WHERE state <> 'ended';
-- Lists a delivery's sessions, newest first.
CREATE INDEX sync_sessions_of_delivery ON sync_sessions (delivery_id, id DESC);

-- Whom each delivery tells what, as its configuration says; `endpoint` as it may be shown, `digest`
-- of the whole address. No secret is in here.
CREATE TABLE delivery_endpoints (
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    kind         text NOT NULL,
    endpoint     text NOT NULL,
    digest       text NOT NULL,
    PRIMARY KEY (delivery_id, kind)
);

-- What is to be told about sessions: written in the transaction that ends one (or begins it, for
-- `start`), and sent afterwards, each row under its own idempotency key however often. Whoever
-- sends one leases it; lease_number only rises, and an answer is written down only under the
-- number that it was leased with. `asked_at` is when it was made, or asked for again by hand.
CREATE TABLE outbox (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id        bigint NOT NULL REFERENCES deliveries,
    session_id         bigint NOT NULL REFERENCES sync_sessions ON DELETE CASCADE,
    kind               text NOT NULL CHECK (kind IN ('registration', 'start', 'failure', 'done')),
    endpoint           text NOT NULL,
    endpoint_digest    text NOT NULL,
    idempotency_key    uuid NOT NULL DEFAULT gen_random_uuid(),
    body               text NOT NULL,
    receipt_digest     text,
    manifest_location  text,
    state              text NOT NULL DEFAULT 'waiting'
                       CHECK (state IN ('waiting', 'told', 'failed')),
    attempts           integer NOT NULL DEFAULT 0,
    made_at            timestamptz NOT NULL DEFAULT now(),
    asked_at           timestamptz NOT NULL DEFAULT now(),
    next_at            timestamptz NOT NULL DEFAULT now(),
    told_at            timestamptz,
    lease_number       bigint NOT NULL DEFAULT 0,
    leased_by          bigint,
    leased_until       timestamptz,
    UNIQUE (session_id, kind, endpoint_digest)
) WITH (fillfactor = 70);

-- What is due next.
CREATE INDEX outbox_due ON outbox (next_at) WHERE state = 'waiting';
-- What waits or failed, for whoever asks how a delivery stands.
CREATE INDEX outbox_open ON outbox (delivery_id) WHERE state <> 'told';

-- The newest tries to send each of them, with the beginning of what was answered.
CREATE TABLE outbox_attempts (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox_id     bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
    attempted_at  timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL DEFAULT now(),
    status        integer,
    answer        text NOT NULL DEFAULT '',
    problem       text
);

-- The story of one letter.
CREATE INDEX outbox_attempts_of_letter ON outbox_attempts (outbox_id, id);

-- One row for every version of every file. Written when it goes on the books and when it is
-- finished; work in between is in upload_queue. seen_at is when it was first seen, where it had to
-- settle before it went on the books; null: it was settled when it was seen. Room is left in each page so that the finishing
-- update stays in it and touches no index. There are no foreign keys here: at a million rows a
-- sweep their checks cost more than the rows, and nothing referenced is ever deleted.
CREATE TABLE file_uploads (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id        bigint NOT NULL,
    destination_id     bigint NOT NULL,
    session_id         bigint,
    sensor_id          bigint NOT NULL,
    predecessor_id     bigint,
    is_current         boolean NOT NULL DEFAULT true,
    kind               file_kind NOT NULL,
    state              upload_state NOT NULL DEFAULT 'pending',
    superseded_from    upload_state,
    conflict           boolean NOT NULL DEFAULT false,
    attempts           integer NOT NULL DEFAULT 0,
    crashes            integer NOT NULL DEFAULT 0,
    claim_number       bigint NOT NULL DEFAULT 0,
    size_bytes         bigint NOT NULL,
    mtime_ns           bigint NOT NULL,
    ctime_ns           bigint NOT NULL,
    enrolled_at        timestamptz NOT NULL DEFAULT now(),
    finished_at        timestamptz,
    captured_at        timestamptz,
    path               text NOT NULL,
    path_bytes         bytea NOT NULL,
    path_digest        bytea NOT NULL,
    object_key         text,
    remote_id          text,
    sha256             bytea,
    etag               text,
    version_id         text,
    checksum_sha256    text,
    store_check        text,
    reason             text,
    response           jsonb,
    seen_at            timestamptz
) WITH (fillfactor = 75);

-- The identity of a file: one current row for each path of a delivery. The digest is the first
-- half of SHA-256 over the path's bytes, because a path may be too long for an index.
CREATE UNIQUE INDEX file_uploads_current ON file_uploads (delivery_id, path_digest)
    WHERE is_current;
-- Recounts a session when it ends, and lists its files.
CREATE INDEX file_uploads_of_session ON file_uploads (session_id);
-- Lists the newest files of a delivery that has had none for long, without reading all the newer ones.
CREATE INDEX file_uploads_of_delivery ON file_uploads (delivery_id, id);

-- Files that are ready, waiting or being uploaded. Narrow, because it is what churns. What is ready
-- has the epoch as its next_at; what somebody wants before all others, minus infinity. A claimed
-- row's next_at is infinity, so it is out of the way of the next claim; that of a file which is
-- missing, until somebody confirms that it is gone, is the year 9999. claim_number only rises: an
-- outcome is written only under the number it was claimed with.
CREATE TABLE upload_queue (
    upload_id     bigint PRIMARY KEY,
    delivery_id   bigint NOT NULL,
    next_at       timestamptz NOT NULL DEFAULT 'epoch',
    claimed_by    bigint,
    claim_number  bigint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0,
    crashes       integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.1);

-- Claims what is due within a delivery, oldest first, and counts what is claimed.
CREATE INDEX upload_queue_due ON upload_queue (delivery_id, next_at, upload_id);

-- Uploads in parts that were begun and are not known to have ended. The row is there before the
-- store is asked, so none of ours is ever unknown; remote_id is null until the store answered.
CREATE TABLE multipart_uploads (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id       bigint NOT NULL,
    delivery_id     bigint NOT NULL REFERENCES deliveries,
    destination_id  bigint NOT NULL REFERENCES destinations,
    object_key      text NOT NULL,
    remote_id       text,
    sha256          bytea NOT NULL,
    size_bytes      bigint NOT NULL,
    part_bytes      bigint NOT NULL,
    begun_at        timestamptz NOT NULL DEFAULT now(),
    touched_at      timestamptz NOT NULL DEFAULT now()
);

-- Finds what earlier attempts on a file left.
CREATE INDEX multipart_uploads_of_file ON multipart_uploads (upload_id);

-- Parts that the store has, with the digest that each was sent under.
CREATE TABLE multipart_parts (
    multipart_id  bigint NOT NULL REFERENCES multipart_uploads ON DELETE CASCADE,
    number        integer NOT NULL,
    size_bytes    bigint NOT NULL,
    sha256        bytea NOT NULL,
    etag          text NOT NULL,
    PRIMARY KEY (multipart_id, number)
);

-- The failures of every file: what `why` tells and what dashboards list. `final` marks the one
-- that put the file into quarantine, `charged` those that used up one of its attempts: trouble of
-- others is told too, and costs it nothing. Of each file only the newest are kept. begun_at is
-- null where nobody saw the attempt begin (a crash).
CREATE TABLE upload_failures (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id    bigint NOT NULL,
    delivery_id  bigint NOT NULL,
    failed_at    timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL,
    scope        text NOT NULL,
    error_class  text NOT NULL,
    message      text NOT NULL,
    hint         text NOT NULL DEFAULT '',
    final        boolean NOT NULL,
    begun_at     timestamptz,
    charged      boolean NOT NULL DEFAULT true
);

-- The story of one file.
CREATE INDEX upload_failures_of_file ON upload_failures (upload_id, id);
-- The newest quarantined files of a delivery.
CREATE INDEX upload_failures_final ON upload_failures (delivery_id, id DESC) WHERE final;

-- Retries that people asked for, each in one delivery: who, when, why, and of what in words.
-- `at_once`: without the wait that was due.
CREATE TABLE retries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    asked_by     text NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    reason       text NOT NULL DEFAULT '',
    what         text NOT NULL,
    at_once      boolean NOT NULL,
    files        bigint NOT NULL DEFAULT 0
);

-- The newest of a delivery: its daemon asks for it once a second.
CREATE INDEX retries_of_delivery ON retries (delivery_id, id DESC);

-- The files of each such retry.
CREATE TABLE retried_files (
    retry_id   bigint NOT NULL REFERENCES retries,
    upload_id  bigint NOT NULL,
    PRIMARY KEY (retry_id, upload_id)
);

-- The story of one file.
CREATE INDEX retried_files_of_file ON retried_files (upload_id);

-- The breakers of programs that work: what stops all uploads of a project, a destination or a
-- station, since when, and when it is probed next. closed_at is null while one is open. `failures`
-- are those that opened it and the probes that failed since. An ended program has none.
CREATE TABLE breakers (
    daemon_id    bigint NOT NULL REFERENCES daemons,
    scope        text NOT NULL,
    target       text NOT NULL,
    error_class  text NOT NULL,
    problem      text NOT NULL,
    hint         text NOT NULL,
    failures     integer NOT NULL,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    probe_at     timestamptz NOT NULL,
    closed_at    timestamptz,
    PRIMARY KEY (daemon_id, scope, target)
);

-- Folder entries that are not uploaded, each with the reason. Forgotten when the delivery's rules
-- change, so that the next sweep judges them anew.
CREATE TABLE ignored_files (
    delivery_id  bigint NOT NULL,
    path_digest  bytea NOT NULL,
    path         text NOT NULL,
    path_bytes   bytea NOT NULL,
    size_bytes   bigint NOT NULL,
    reason       text NOT NULL,
    seen_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, path_digest)
);

-- The file system that each delivery's folder was last swept on at a station, by its UUID or another
-- name that outlasts a restart: another one there, or none, says nothing about the files of this one.
CREATE TABLE delivery_roots (
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    station_id   bigint NOT NULL REFERENCES stations,
    filesystem   text NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, station_id)
);

-- What people set over the configuration while it runs: a bandwidth limit, a pause, and what they ask
-- for: a sweep. One row holds
-- for a whole station or for one delivery (wherever it is worked on, if it is shared). Setting
-- something anew, and going back to the configuration, ends the row before: rows are kept as the
-- story of who set what. What has an `until` stops to hold by itself.
CREATE TABLE controls (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id   bigint REFERENCES stations,
    delivery_id  bigint REFERENCES deliveries,
    kind         text NOT NULL CHECK (kind IN ('bandwidth', 'pause', 'rescan')),
    value        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    set_by       text NOT NULL,
    set_at       timestamptz NOT NULL DEFAULT now(),
    until        timestamptz,
    ended_by     text,
    ended_at     timestamptz,
    CHECK (num_nonnulls(station_id, delivery_id) = 1),
    CHECK ((ended_by IS NULL) = (ended_at IS NULL))
);

-- A station has at most one of each kind that was not ended.
CREATE UNIQUE INDEX controls_of_station ON controls (station_id, kind) WHERE ended_at IS NULL;
-- So has a delivery.
CREATE UNIQUE INDEX controls_of_delivery ON controls (delivery_id, kind) WHERE ended_at IS NULL;

-- Counts that are kept, so that nothing ever counts the files. Triggers append signed changes to
-- counter_deltas, which has no key to contend for; the janitor folds them into the two tables of
-- sums once a second; readers add both. `ignored` is counted beside the upload states.
CREATE TABLE counter_deltas (
    delivery_id  bigint NOT NULL,
    session_id   bigint,
    sensor_id    bigint NOT NULL,
    kind         file_kind NOT NULL,
    state        text NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The sums for each delivery, sensor, kind and state.
CREATE TABLE file_counts (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    kind         file_kind NOT NULL,
    state        text NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (delivery_id, sensor_id, kind, state)
) WITH (fillfactor = 50);

-- The sums for each session and state.
CREATE TABLE session_counts (
    session_id  bigint NOT NULL,
    state       text NOT NULL,
    files       bigint NOT NULL,
    bytes       bigint NOT NULL,
    PRIMARY KEY (session_id, state)
) WITH (fillfactor = 50);

-- Appends what an INSERT on file_uploads adds to the counts.
CREATE FUNCTION count_inserted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (delivery_id, session_id, sensor_id, kind, state, files, bytes)
    SELECT delivery_id, session_id, sensor_id, kind, state::text, count(*), sum(size_bytes)
    FROM new_rows
    GROUP BY delivery_id, session_id, sensor_id, kind, state;
    RETURN NULL;
END $$;

-- Appends what an UPDATE on file_uploads moves from one count to another.
CREATE FUNCTION count_updated_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (delivery_id, session_id, sensor_id, kind, state, files, bytes)
    SELECT delivery_id, session_id, sensor_id, kind, state::text, sum(files), sum(bytes)
    FROM (
        SELECT delivery_id, session_id, sensor_id, kind, state, 1 AS files, size_bytes AS bytes
        FROM new_rows
        UNION ALL
        SELECT delivery_id, session_id, sensor_id, kind, state, -1, -size_bytes
        FROM old_rows
    ) AS change
    GROUP BY delivery_id, session_id, sensor_id, kind, state
    HAVING sum(files) <> 0 OR sum(bytes) <> 0;
    RETURN NULL;
END $$;

-- Appends what a DELETE on file_uploads takes from the counts.
CREATE FUNCTION count_deleted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (delivery_id, session_id, sensor_id, kind, state, files, bytes)
    SELECT delivery_id, session_id, sensor_id, kind, state::text, -count(*), -sum(size_bytes)
    FROM old_rows
    GROUP BY delivery_id, session_id, sensor_id, kind, state;
    RETURN NULL;
END $$;

CREATE TRIGGER file_uploads_inserted AFTER INSERT ON file_uploads
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_files();

CREATE TRIGGER file_uploads_updated AFTER UPDATE ON file_uploads
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_updated_files();

CREATE TRIGGER file_uploads_deleted AFTER DELETE ON file_uploads
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_files();

-- The same for ignored files, which have no session, sensor or kind of their own.
CREATE FUNCTION count_ignored_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counter_deltas (delivery_id, session_id, sensor_id, kind, state, files, bytes)
    SELECT delivery_id, NULL, 0, 'other', 'ignored',
           CASE TG_OP WHEN 'DELETE' THEN -count(*) ELSE count(*) END,
           CASE TG_OP WHEN 'DELETE' THEN -sum(size_bytes) ELSE sum(size_bytes) END
    FROM changed_rows
    GROUP BY delivery_id;
    RETURN NULL;
END $$;

CREATE TRIGGER ignored_files_inserted AFTER INSERT ON ignored_files
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_ignored_files();

CREATE TRIGGER ignored_files_deleted AFTER DELETE ON ignored_files
    REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_ignored_files();

-- Listings of what a destination holds below a prefix. began_at is that of the last one, complete
-- or not; completed_at is when the last complete one ended, and objects is what it found.
CREATE TABLE object_listings (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination_id  bigint NOT NULL REFERENCES destinations,
    s3_prefix       text NOT NULL,
    began_at        timestamptz,
    completed_at    timestamptz,
    objects         bigint NOT NULL DEFAULT 0,
    UNIQUE (destination_id, s3_prefix)
);

-- The objects that listings found, each known by the first half of the SHA-256 of its key. A hint
-- only: it says where to look before sending, never that a file is stored. Room is left in each
-- page, so that seeing an object again touches no index.
CREATE TABLE listed_objects (
    listing_id  bigint NOT NULL,
    key_digest  bytea NOT NULL,
    size_bytes  bigint NOT NULL,
    etag        text NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (listing_id, key_digest)
) WITH (fillfactor = 70);

-- How an object was verified, the weakest first: its size and ETag in a listing; the same and the
-- store's checksum by a look at it; its bytes, read back and hashed.
CREATE TYPE check_method AS ENUM ('listing', 'head', 'read-back');

-- What came of it, against what the ledger has.
CREATE TYPE check_result AS ENUM ('same', 'missing', 'different');

-- When each stored object was last verified, how, and with what result. Narrow, because a
-- verification writes a row for every object. Bytes that were found different stay so until they
-- are read back again: no weaker method sees them.
CREATE TABLE object_checks (
    upload_id    bigint PRIMARY KEY,
    delivery_id  bigint NOT NULL,
    checked_at   timestamptz NOT NULL,
    method       check_method NOT NULL,
    result       check_result NOT NULL,
    reason       text
) WITH (fillfactor = 80);

-- Counts and lists what is missing or different in a delivery: hopefully nothing.
CREATE INDEX object_checks_bad ON object_checks (delivery_id) WHERE result <> 'same';

-- How far each station's audit is in its walk over all stored objects: began_at and position (the
-- last upload that was reached) of this round, and until when its daily share is used up.
CREATE TABLE audit_rounds (
    station_id  bigint PRIMARY KEY REFERENCES stations,
    began_at    timestamptz NOT NULL DEFAULT now(),
    position    bigint NOT NULL DEFAULT 0,
    used_until  timestamptz NOT NULL DEFAULT now()
);

-- The objects that must be in the store: every version that was stored or found stored, also those
-- that have a successor since.
CREATE VIEW stored_objects AS
SELECT id AS upload_id, delivery_id, destination_id, session_id, sensor_id, is_current, size_bytes,
       path, path_bytes, object_key, sha256, etag, checksum_sha256, finished_at
FROM file_uploads
WHERE object_key IS NOT NULL AND sha256 IS NOT NULL
  AND (state IN ('uploaded', 'skipped')
       OR (state = 'superseded' AND superseded_from IN ('uploaded', 'skipped')));

-- The day on which a file was recorded: that in its name where recorders put one (in the recorder's
-- own time), else that of its modification time (UTC). core/captured.py says what counts, and a test
-- holds the two equal.
CREATE FUNCTION captured_day(path text, mtime_ns bigint) RETURNS date
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    name    text := split_part(path, '/', -1);
    found   text := substring(name FROM
        '(?:^|[^0-9])[12][0-9]{3}[-._]?[01][0-9][-._]?[0-3][0-9][-_$T .]?'
        '[0-9]{2}[-._:]?[0-9]{2}[-._:]?[0-9]{2}(?:[0-9]{3})?(?:[^0-9]|$)');
    digits  text;
    month   integer;
    day     date;
BEGIN
    IF found IS NOT NULL THEN
        digits := translate(found, translate(found, '0123456789', ''), '');
        month := substr(digits, 5, 2);
        IF left(digits, 4) BETWEEN '1970' AND '2099' AND month BETWEEN 1 AND 12 THEN
            day := make_date(left(digits, 4)::integer, month, 1) + (substr(digits, 7, 2)::integer - 1);
            IF extract(month FROM day) = month THEN
                RETURN day;
            END IF;
        END IF;
    ELSIF name ~ '^(?:0000|5[89A-Fa-f][0-9A-Fa-f]{2}|[67][0-9A-Fa-f]{3})[0-9A-Fa-f]{4}[.][Ww][Aa][Vv]$' THEN
        RETURN date '1970-01-01' + ('x' || left(name, 8))::bit(32)::integer / 86400;
    END IF;
    RETURN date '1970-01-01'
        + (mtime_ns / 86400000000000 - (mtime_ns % 86400000000000 < 0)::integer)::integer;
END $$;

-- The sums of file_counts over all sensors of a delivery: small, for those who ask for many
-- deliveries. A trigger on file_counts keeps them.
CREATE TABLE delivery_counts (
    delivery_id  bigint NOT NULL,
    kind         file_kind NOT NULL,
    state        text NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (delivery_id, kind, state)
) WITH (fillfactor = 50);

-- Adds what changed in file_counts to delivery_counts.
CREATE FUNCTION sum_up_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO delivery_counts AS c (delivery_id, kind, state, files, bytes)
        SELECT delivery_id, kind, state, sum(files), sum(bytes)
        FROM (SELECT delivery_id, kind, state, files, bytes FROM new_rows
              UNION ALL
              SELECT delivery_id, kind, state, -files, -bytes FROM old_rows) AS change
        GROUP BY delivery_id, kind, state
        HAVING sum(files) <> 0 OR sum(bytes) <> 0
        ON CONFLICT (delivery_id, kind, state) DO UPDATE
        SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes;
    ELSE
        INSERT INTO delivery_counts AS c (delivery_id, kind, state, files, bytes)
        SELECT delivery_id, kind, state, sum(files), sum(bytes) FROM new_rows
        GROUP BY delivery_id, kind, state
        ON CONFLICT (delivery_id, kind, state) DO UPDATE
        SET files = c.files + excluded.files, bytes = c.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER file_counts_inserted AFTER INSERT ON file_counts
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION sum_up_deliveries();

CREATE TRIGGER file_counts_updated AFTER UPDATE ON file_counts
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION sum_up_deliveries();

-- All counts as they are now, folded or not: to be summed up by whoever reads them.
CREATE VIEW kept_counts AS
SELECT delivery_id, kind, state, files, bytes FROM delivery_counts
UNION ALL
SELECT delivery_id, kind, state, files, bytes FROM counter_deltas;

-- What a change of file_uploads did to the days of sensors; appended by triggers and folded by the
-- janitor like counter_deltas. Counted are files that are stored, on their way or quarantined; an
-- upload that succeeds changes nothing here.
CREATE TABLE coverage_deltas (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    captured_on  date NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    failed       bigint NOT NULL,
    enrolled_at  timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- What each sensor recorded on each day, as far as it is folded. A day that lost all its files stays
-- with zeros.
CREATE TABLE sensor_days (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    captured_on  date NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    failed       bigint NOT NULL,
    PRIMARY KEY (delivery_id, sensor_id, captured_on)
) WITH (fillfactor = 70);

-- The sums of sensor_days, its first and last day with files, and when something of the sensor last
-- went on the books.
CREATE TABLE sensor_sums (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    failed       bigint NOT NULL,
    first_day    date,
    last_day     date,
    enrolled_at  timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, sensor_id)
) WITH (fillfactor = 50);

-- What was finished in which minute; appended by triggers and folded by the janitor. `failed` is a
-- quarantining, which stays counted when the file is tried again; it has no bytes.
CREATE TABLE rate_deltas (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL CHECK (result IN ('uploaded', 'skipped', 'failed')),
    minute       timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    last_at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- What was finished in each hour (UTC), as far as it is folded.
CREATE TABLE hourly_rates (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL,
    hour         timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    last_at      timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, result, hour)
) WITH (fillfactor = 70);

-- The same for each minute of the last hour: how fast it goes at present.
CREATE TABLE minute_rates (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL,
    minute       timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (delivery_id, result, minute)
) WITH (fillfactor = 50);

-- Finds the minutes that are over.
CREATE INDEX minute_rates_age ON minute_rates (minute);

-- Appends what an INSERT on file_uploads adds to days and rates.
CREATE FUNCTION roll_up_inserted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO coverage_deltas
        (delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at)
    SELECT delivery_id, sensor_id, captured_day(min(path), min(mtime_ns)), count(*),
           sum(size_bytes), count(*) FILTER (WHERE state = 'failed'), max(enrolled_at)
    FROM (
        -- Most names end with _HHMMSS.WAV or the like after the date: what comes before that tells
        -- the day. A date and a time have fourteen digits: a name with fewer, as cameras give them,
        -- tells no day, unless it is a recorder's eight digits of seconds.
        SELECT delivery_id, sensor_id, path, mtime_ns, size_bytes, state, enrolled_at,
               CASE WHEN translate(right(path, 20), '123456789/', '000000000_')
                         LIKE '\_00000000\_000000.___'
                    THEN left(path, -11)
                    WHEN length(translate(split_part(path, '/', -1), '0123456789', ''))
                             > length(split_part(path, '/', -1)) - 14
                         AND lower(right(path, 4)) <> '.wav'
                    THEN ''
                    ELSE path END AS alike,
               mtime_ns / 86400000000000 - (mtime_ns % 86400000000000 < 0)::integer AS mtime_day
        FROM new_rows
        WHERE state IN ('pending', 'uploaded', 'skipped', 'failed')
    ) AS f
    GROUP BY delivery_id, sensor_id, alike, mtime_day;
    INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
    SELECT delivery_id, coalesce(superseded_from, state), date_bin('1 minute', finished_at, 'epoch'),
           count(*), sum(size_bytes), max(finished_at)
    FROM new_rows
    WHERE finished_at IS NOT NULL AND coalesce(superseded_from, state) IN ('uploaded', 'skipped')
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

-- Appends what an UPDATE changes of them. Days are looked up only for files whose size, time, or place
-- among the counted ones changed.
CREATE FUNCTION roll_up_updated_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO coverage_deltas
        (delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at)
    SELECT delivery_id, sensor_id, captured_day(path, mtime_ns), sum(files), sum(files * size_bytes),
           coalesce(sum(files) FILTER (WHERE state = 'failed'), 0), max(enrolled_at)
    FROM (
        SELECT change.*
        FROM new_rows AS n
        JOIN old_rows AS o ON o.id = n.id
        CROSS JOIN LATERAL (VALUES
            (1, n.delivery_id, n.sensor_id, n.path, n.mtime_ns, n.size_bytes, n.state, n.enrolled_at),
            (-1, o.delivery_id, o.sensor_id, o.path, o.mtime_ns, o.size_bytes, o.state, o.enrolled_at)
        ) AS change (files, delivery_id, sensor_id, path, mtime_ns, size_bytes, state, enrolled_at)
        WHERE n.state IN ('failed', 'superseded', 'vanished')
           OR o.state IN ('failed', 'superseded', 'vanished')
           OR n.size_bytes <> o.size_bytes OR n.mtime_ns <> o.mtime_ns
    ) AS changed
    WHERE state IN ('pending', 'uploaded', 'skipped', 'failed')
    GROUP BY delivery_id, sensor_id, captured_day(path, mtime_ns)
    HAVING sum(files) <> 0 OR sum(files * size_bytes) <> 0
        OR sum(files) FILTER (WHERE state = 'failed') <> 0;
    INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
    SELECT delivery_id, result, date_bin('1 minute', finished_at, 'epoch'), sum(files),
           sum(files * size_bytes), max(finished_at)
    FROM (
        SELECT 1 AS files, delivery_id, coalesce(superseded_from, state) AS result, finished_at,
               size_bytes
        FROM new_rows
        UNION ALL
        SELECT -1, delivery_id, coalesce(superseded_from, state), finished_at, size_bytes
        FROM old_rows
    ) AS change
    WHERE finished_at IS NOT NULL AND result IN ('uploaded', 'skipped')
    GROUP BY 1, 2, 3
    HAVING sum(files) <> 0 OR sum(files * size_bytes) <> 0;
    RETURN NULL;
END $$;

-- Appends what a DELETE takes from them.
CREATE FUNCTION roll_up_deleted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO coverage_deltas
        (delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at)
    SELECT delivery_id, sensor_id, captured_day(path, mtime_ns), -count(*), -sum(size_bytes),
           -count(*) FILTER (WHERE state = 'failed'), max(enrolled_at)
    FROM old_rows
    WHERE state IN ('pending', 'uploaded', 'skipped', 'failed')
    GROUP BY delivery_id, sensor_id, captured_day(path, mtime_ns);
    INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
    SELECT delivery_id, coalesce(superseded_from, state), date_bin('1 minute', finished_at, 'epoch'),
           -count(*), -sum(size_bytes), max(finished_at)
    FROM old_rows
    WHERE finished_at IS NOT NULL AND coalesce(superseded_from, state) IN ('uploaded', 'skipped')
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE TRIGGER file_uploads_inserted_rollups AFTER INSERT ON file_uploads
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION roll_up_inserted_files();

CREATE TRIGGER file_uploads_updated_rollups AFTER UPDATE ON file_uploads
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION roll_up_updated_files();

CREATE TRIGGER file_uploads_deleted_rollups AFTER DELETE ON file_uploads
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION roll_up_deleted_files();

-- Appends quarantinings to the rates.
CREATE FUNCTION roll_up_failures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
    SELECT delivery_id, 'failed'::upload_state, date_bin('1 minute', failed_at, 'epoch'), count(*), 0,
           max(failed_at)
    FROM new_rows WHERE final
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE TRIGGER upload_failures_rollups AFTER INSERT ON upload_failures
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION roll_up_failures();

-- The views of the schema `grafana` (sql/views/), with the SHA-256 of the text that each was made of.
-- They are made anew where a text changed.
CREATE TABLE applied_views (
    name        text PRIMARY KEY,
    digest      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- The counts by state, with files that a worker holds a claim on as `uploading`.
CREATE VIEW claimed_counts AS
SELECT delivery_id, kind, state, files, bytes FROM kept_counts WHERE state <> 'ignored'
UNION ALL
SELECT d.id, f.kind, change.state, change.files, change.files * f.size_bytes
FROM deliveries AS d
CROSS JOIN LATERAL (
    SELECT upload_id FROM upload_queue WHERE delivery_id = d.id AND next_at = 'infinity' OFFSET 0
) AS q
JOIN file_uploads AS f ON f.id = q.upload_id
CROSS JOIN (VALUES ('uploading', 1), ('pending', -1)) AS change (state, files)
WHERE d.retired_at IS NULL;

-- How sessions that have not ended stand, and how fast they went in the last four to five minutes.
CREATE VIEW running_sessions AS
SELECT s.id AS session_id, s.delivery_id, s.state, s.started_at, coalesce(k.total, 0) AS total,
       coalesce(k.uploaded, 0) AS uploaded, coalesce(k.skipped, 0) AS skipped,
       coalesce(k.failed, 0) AS failed, coalesce(k.bytes, 0) AS bytes,
       coalesce(k.files_left, 0) AS files_left, coalesce(k.bytes_left, 0) AS bytes_left,
       (r.files / w.seconds)::float8 AS files_per_second,
       (r.bytes / w.seconds)::float8 AS bytes_per_second
FROM sync_sessions AS s
LEFT JOIN (
    SELECT u.session_id, sum(u.files)::bigint AS total, sum(u.bytes)::bigint AS bytes,
           sum(u.files) FILTER (WHERE u.state = 'uploaded')::bigint AS uploaded,
           sum(u.files) FILTER (WHERE u.state = 'skipped')::bigint AS skipped,
           sum(u.files) FILTER (WHERE u.state = 'failed')::bigint AS failed,
           sum(u.files) FILTER (WHERE u.state = 'pending')::bigint AS files_left,
           sum(u.bytes) FILTER (WHERE u.state = 'pending')::bigint AS bytes_left
    FROM (
        SELECT c.session_id, c.state, c.files, c.bytes
        FROM sync_sessions AS n JOIN session_counts AS c ON c.session_id = n.id
        WHERE n.state <> 'ended'
        UNION ALL
        SELECT session_id, state, files, bytes FROM counter_deltas WHERE session_id IS NOT NULL
    ) AS u
    GROUP BY u.session_id
) AS k ON k.session_id = s.id
CROSS JOIN LATERAL (
    SELECT greatest(s.started_at, date_bin('1 minute', now(), 'epoch') - interval '4 minutes')
           AS since
) AS t
CROSS JOIN LATERAL (SELECT greatest(1, extract(epoch FROM now() - t.since)) AS seconds) AS w
CROSS JOIN LATERAL (
    SELECT coalesce(sum(u.files), 0) AS files, coalesce(sum(u.bytes), 0) AS bytes
    FROM (
        SELECT files, bytes FROM minute_rates
        WHERE delivery_id = s.delivery_id AND result IN ('uploaded', 'skipped')
          AND minute >= date_bin('1 minute', t.since, 'epoch')
        UNION ALL
        SELECT files, bytes FROM rate_deltas
        WHERE delivery_id = s.delivery_id AND result IN ('uploaded', 'skipped')
          AND minute >= date_bin('1 minute', t.since, 'epoch')
    ) AS u
) AS r
WHERE s.state <> 'ended';

-- Receipts that were made: of a delivery, of one of its sensors, or of a card (delivery_id null),
-- each with its verdict and the sums of its four classes. kept_in is its folder in the state
-- directory, object_key where its document lies in the bucket (null: it could not be put there).
-- digest is the SHA-256 that its signature and its QR code speak of, session_id the session that
-- ended with it.
CREATE TABLE receipts (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id        bigint REFERENCES deliveries,
    sensor             text,
    folder             text NOT NULL,
    verdict            text NOT NULL CHECK (verdict IN ('SAFE', 'NOT SAFE')),
    made_at            timestamptz NOT NULL,
    made_by            text NOT NULL,
    digest             bytea NOT NULL UNIQUE,
    files_stored       bigint NOT NULL,
    bytes_stored       bigint NOT NULL,
    files_skipped      bigint NOT NULL,
    files_quarantined  bigint NOT NULL,
    files_pending      bigint NOT NULL,
    problems           bigint NOT NULL,
    kept_in            text NOT NULL,
    object_key         text,
    session_id         bigint REFERENCES sync_sessions
);

-- Finds a delivery's newest receipts.
CREATE INDEX receipts_of_delivery ON receipts (delivery_id, id DESC);

-- The log of files that were taken away from drop folders after they were proven to be stored
-- (`after_verified`). A row is written before a file is touched, and ended afterwards: one without
-- ended_at is under way, or was broken off and is looked into by whoever takes the delivery's files
-- next. target is where files are moved ('' where they are deleted), moved_to the path below it.
CREATE TABLE taken_files (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id    bigint NOT NULL,
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    receipt_id   bigint NOT NULL REFERENCES receipts,
    wish         text NOT NULL CHECK (wish IN ('delete', 'move')),
    target       text NOT NULL,
    begun_at     timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    outcome      text CHECK (outcome IN ('taken', 'left', 'missing')),
    moved_to     text,
    reason       text,
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

-- Finds what happened to a file.
CREATE INDEX taken_files_of_file ON taken_files (upload_id, id);
-- Finds what was broken off.
CREATE INDEX taken_files_open ON taken_files (delivery_id) WHERE ended_at IS NULL;
