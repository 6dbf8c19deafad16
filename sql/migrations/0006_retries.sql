-- What `why` tells of a file's attempts, and who had files retried by hand.

ALTER TABLE file_uploads ADD COLUMN seen_at timestamptz;

ALTER TABLE upload_failures
    ADD COLUMN begun_at timestamptz,
    ADD COLUMN charged boolean NOT NULL DEFAULT true;

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

CREATE INDEX retries_of_delivery ON retries (delivery_id, id DESC);

CREATE TABLE retried_files (
    retry_id   bigint NOT NULL REFERENCES retries,
    upload_id  bigint NOT NULL,
    PRIMARY KEY (retry_id, upload_id)
);

CREATE INDEX retried_files_of_file ON retried_files (upload_id);
