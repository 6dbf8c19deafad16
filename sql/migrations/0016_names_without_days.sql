-- The names of pictures tell no day, but were each looked at for one: they are taken together.

CREATE OR REPLACE FUNCTION roll_up_inserted_files() RETURNS trigger LANGUAGE plpgsql AS $$
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
