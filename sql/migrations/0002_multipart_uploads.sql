-- Uploads in parts are remembered, so that a restart goes on with them instead of beginning anew,
-- and so that those nobody goes on with can be thrown away in the store.

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
