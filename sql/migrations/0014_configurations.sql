-- Since when a daemon works with its configuration, and whether it was given another one since that
-- it could not use.

ALTER TABLE daemons
    ADD COLUMN configured_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN refused_at timestamptz,
    ADD COLUMN refused_problem text;
