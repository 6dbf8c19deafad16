-- Looking up each file's day by its name took a twentieth of the ledger's time: files whose names
-- differ in the time of day only are looked up together, so that time of day is no longer judged.

CREATE OR REPLACE FUNCTION captured_day(path text, mtime_ns bigint) RETURNS date
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

CREATE OR REPLACE FUNCTION roll_up_inserted_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO coverage_deltas
        (delivery_id, sensor_id, captured_on, files, bytes, failed, enrolled_at)
    SELECT delivery_id, sensor_id, captured_day(min(path), min(mtime_ns)), count(*),
           sum(size_bytes), count(*) FILTER (WHERE state = 'failed'), max(enrolled_at)
    FROM (
        -- Most names end with _HHMMSS.WAV or the like after the date: what comes before that tells
        -- the day.
        SELECT delivery_id, sensor_id, path, mtime_ns, size_bytes, state, enrolled_at,
               CASE WHEN translate(right(path, 20), '123456789/', '000000000_')
                         LIKE '\_00000000\_000000.___'
                    THEN left(path, -11) ELSE path END AS alike,
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
