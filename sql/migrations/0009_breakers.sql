-- What stops all uploads of a project, a destination or a station, for verbs to tell.

CREATE TABLE breakers (
    daemon_id    bigint NOT NULL REFERENCES daemons,
    scope        text NOT NULL,
    target       text NOT NULL,
    error_class  text NOT NULL,
    problem      text NOT NULL,
    hint         text NOT NULL,
    failures     integer NOT NULL,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    probe_at     timestamptz NOT NULL,
    closed_at    timestamptz,
    PRIMARY KEY (daemon_id, scope, target)
);
