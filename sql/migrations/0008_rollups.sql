-- Dashboards counted nothing without reading files: days per sensor, rates and sums by delivery are
-- kept now, and views on them live in the schema `grafana` (sql/views/, applied after migrations).

CREATE FUNCTION captured_day(path text, mtime_ns bigint) RETURNS date
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    name    text := split_part(path, '/', -1);
    found   text := substring(name FROM
        '(?:^|[^0-9])[12][0-9]{3}[-._]?[01][0-9][-._]?[0-3][0-9][-_$T .]?'
        '[0-2][0-9][-._:]?[0-5][0-9][-._:]?[0-5][0-9](?:[0-9]{3})?(?:[^0-9]|$)');
    digits  text;
    month   integer;
    day     date;
BEGIN
    IF found IS NOT NULL THEN
        digits := translate(found, translate(found, '0123456789', ''), '');
        month := substr(digits, 5, 2);
        IF left(digits, 4) BETWEEN '1970' AND '2099' AND month BETWEEN 1 AND 12
           AND substr(digits, 9, 2) < '24' THEN
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

CREATE TABLE delivery_counts (
    delivery_id  bigint NOT NULL,
    kind         file_kind NOT NULL,
    state        text NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (delivery_id, kind, state)
) WITH (fillfactor = 50);

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

CREATE VIEW kept_counts AS
SELECT delivery_id, kind, state, files, bytes FROM delivery_counts
UNION ALL
SELECT delivery_id, kind, state, files, bytes FROM counter_deltas;

CREATE TABLE coverage_deltas (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    captured_on  date NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    failed       bigint NOT NULL,
    enrolled_at  timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE sensor_days (
    delivery_id  bigint NOT NULL,
    sensor_id    bigint NOT NULL,
    captured_on  date NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    failed       bigint NOT NULL,
    PRIMARY KEY (delivery_id, sensor_id, captured_on)
) WITH (fillfactor = 70);

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

CREATE TABLE rate_deltas (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL CHECK (result IN ('uploaded', 'skipped', 'failed')),
    minute       timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    last_at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE hourly_rates (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL,
    hour         timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    last_at      timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, result, hour)
) WITH (fillfactor = 70);

CREATE TABLE minute_rates (
    delivery_id  bigint NOT NULL,
    result       upload_state NOT NULL,
    minute       timestamptz NOT NULL,
    files        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (delivery_id, result, minute)
) WITH (fillfactor = 50);

CREATE INDEX minute_rates_age ON minute_rates (minute);

CREATE FUNCTION roll_up_inserted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO coverage_deltas
        (delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at)
    SELECT delivery_id, sensor_id, captured_day(path, mtime_ns), count(*), sum(size_bytes),
           count(*) FILTER (WHERE state = 'failed'), max(enrolled_at)
    FROM new_rows
    WHERE state IN ('pending', 'uploaded', 'skipped', 'failed')
    GROUP BY delivery_id, sensor_id, captured_day(path, mtime_ns);
    INSERT INTO rate_deltas (delivery_id, result, minute, files, bytes, last_at)
    SELECT delivery_id, coalesce(superseded_from, state), date_bin('1 minute', finished_at, 'epoch'),
           count(*), sum(size_bytes), max(finished_at)
    FROM new_rows
    WHERE finished_at IS NOT NULL AND coalesce(superseded_from, state) IN ('uploaded', 'skipped')
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

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

CREATE TABLE applied_views (
    name        text PRIMARY KEY,
    digest      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- What is in the ledger already is carried over. The triggers' locks keep writers out until then.
INSERT INTO delivery_counts (delivery_id, kind, state, files, bytes)
SELECT delivery_id, kind, state, sum(files), sum(bytes) FROM file_counts GROUP BY 1, 2, 3;

INSERT INTO sensor_days (delivery_id, sensor_id, captured_on, files, bytes, failed)
SELECT delivery_id, sensor_id, captured_day(path, mtime_ns), count(*), sum(size_bytes),
       count(*) FILTER (WHERE state = 'failed')
FROM file_uploads
WHERE state IN ('pending', 'uploaded', 'skipped', 'failed')
GROUP BY 1, 2, 3;

INSERT INTO sensor_sums
    (delivery_id, sensor_id, files, bytes, failed, first_day, last_day, enrolled_at)
SELECT s.delivery_id, s.sensor_id, coalesce(d.files, 0), coalesce(d.bytes, 0),
       coalesce(d.failed, 0), d.first_day, d.last_day, s.enrolled_at
FROM (
    SELECT delivery_id, sensor_id, max(enrolled_at) AS enrolled_at FROM file_uploads GROUP BY 1, 2
) AS s
LEFT JOIN (
    SELECT delivery_id, sensor_id, sum(files) AS files, sum(bytes) AS bytes, sum(failed) AS failed,
           min(captured_on) AS first_day, max(captured_on) AS last_day
    FROM sensor_days GROUP BY 1, 2
) AS d USING (delivery_id, sensor_id);

INSERT INTO hourly_rates (delivery_id, result, hour, files, bytes, last_at)
SELECT delivery_id, coalesce(superseded_from, state), date_bin('1 hour', finished_at, 'epoch'),
       count(*), sum(size_bytes), max(finished_at)
FROM file_uploads
WHERE finished_at IS NOT NULL AND coalesce(superseded_from, state) IN ('uploaded', 'skipped')
GROUP BY 1, 2, 3
UNION ALL
SELECT delivery_id, 'failed'::upload_state, date_bin('1 hour', failed_at, 'epoch'), count(*), 0, max(failed_at)
FROM upload_failures WHERE final
GROUP BY 1, 2, 3;

INSERT INTO minute_rates (delivery_id, result, minute, files, bytes)
SELECT delivery_id, coalesce(superseded_from, state), date_bin('1 minute', finished_at, 'epoch'),
       count(*), sum(size_bytes)
FROM file_uploads
WHERE finished_at > now() - interval '1 hour'
  AND coalesce(superseded_from, state) IN ('uploaded', 'skipped')
GROUP BY 1, 2, 3;

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
