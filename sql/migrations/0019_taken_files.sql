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
