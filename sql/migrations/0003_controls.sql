-- What people set over the configuration while it runs: a bandwidth limit, a pause. One row holds
-- for a whole station or for one delivery (wherever it is worked on, if it is shared). Setting
-- something anew, and going back to the configuration, ends the row before: rows are kept as the
-- story of who set what. What has an `until` stops to hold by itself.
CREATE TABLE controls (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id   bigint REFERENCES stations,
    delivery_id  bigint REFERENCES deliveries,
    kind         text NOT NULL CHECK (kind IN ('bandwidth', 'pause')),
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
