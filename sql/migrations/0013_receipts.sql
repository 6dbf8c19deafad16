-- Receipts that were made: of a delivery, of one of its sensors, or of a card (delivery_id null),
-- each with its verdict and the sums of its four classes. kept_in is its folder in the state
-- directory, object_key where its document lies in the bucket (null: it could not be put there).
-- digest is the SHA-256 that its signature and its QR code speak of.
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
    object_key         text
);

-- Finds a delivery's newest receipts.
CREATE INDEX receipts_of_delivery ON receipts (delivery_id, id DESC);
