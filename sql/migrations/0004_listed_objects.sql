-- What is in the bucket is known before anything is sent: the keys of files that are there already
-- are looked at, and nothing is sent for nothing.

CREATE TABLE object_listings (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination_id  bigint NOT NULL REFERENCES destinations,
    s3_prefix       text NOT NULL,
    began_at        timestamptz,
    completed_at    timestamptz,
    objects         bigint NOT NULL DEFAULT 0,
    UNIQUE (destination_id, s3_prefix)
);

CREATE TABLE listed_objects (
    listing_id  bigint NOT NULL,
    key_digest  bytea NOT NULL,
    size_bytes  bigint NOT NULL,
    etag        text NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (listing_id, key_digest)
) WITH (fillfactor = 70);
