-- A sweep that somebody asks for is a control like the others.
ALTER TABLE controls DROP CONSTRAINT controls_kind_check;
ALTER TABLE controls ADD CONSTRAINT controls_kind_check
    CHECK (kind IN ('bandwidth', 'pause', 'rescan'));

-- The file system that each delivery's folder was last swept on at a station, by its UUID or another
-- name that outlasts a restart: another one there, or none, says nothing about the files of this one.
CREATE TABLE delivery_roots (
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    station_id   bigint NOT NULL REFERENCES stations,
    filesystem   text NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, station_id)
);
