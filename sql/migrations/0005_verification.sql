-- Whether what was stored is still there, and when each object was last looked at.

CREATE TYPE check_method AS ENUM ('listing', 'head', 'read-back');

CREATE TYPE check_result AS ENUM ('same', 'missing', 'different');

CREATE TABLE object_checks (
    upload_id    bigint PRIMARY KEY,
    delivery_id  bigint NOT NULL,
    checked_at   timestamptz NOT NULL,
    method       check_method NOT NULL,
    result       check_result NOT NULL,
    reason       text
) WITH (fillfactor = 80);

CREATE INDEX object_checks_bad ON object_checks (delivery_id) WHERE result <> 'same';

CREATE TABLE audit_rounds (
    station_id  bigint PRIMARY KEY REFERENCES stations,
    began_at    timestamptz NOT NULL DEFAULT now(),
    position    bigint NOT NULL DEFAULT 0,
    used_until  timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW stored_objects AS
SELECT id AS upload_id, delivery_id, destination_id, session_id, sensor_id, is_current, size_bytes,
       path, path_bytes, object_key, sha256, etag, checksum_sha256, finished_at
FROM file_uploads
WHERE object_key IS NOT NULL AND sha256 IS NOT NULL
  AND (state IN ('uploaded', 'skipped')
       OR (state = 'superseded' AND superseded_from IN ('uploaded', 'skipped')));
