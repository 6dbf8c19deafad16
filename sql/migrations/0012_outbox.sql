-- Who is told when a session has ended, and what became of the telling.

CREATE TABLE delivery_endpoints (
    delivery_id  bigint NOT NULL REFERENCES deliveries,
    kind         text NOT NULL,
    endpoint     text NOT NULL,
    digest       text NOT NULL,
    PRIMARY KEY (delivery_id, kind)
);

CREATE TABLE outbox (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id        bigint NOT NULL REFERENCES deliveries,
    session_id         bigint NOT NULL REFERENCES sync_sessions ON DELETE CASCADE,
    kind               text NOT NULL CHECK (kind IN ('registration', 'start', 'failure', 'done')),
    endpoint           text NOT NULL,
    endpoint_digest    text NOT NULL,
    idempotency_key    uuid NOT NULL DEFAULT gen_random_uuid(),
    body               text NOT NULL,
    receipt_digest     text,
    manifest_location  text,
    state              text NOT NULL DEFAULT 'waiting'
                       CHECK (state IN ('waiting', 'told', 'failed')),
    attempts           integer NOT NULL DEFAULT 0,
    made_at            timestamptz NOT NULL DEFAULT now(),
    asked_at           timestamptz NOT NULL DEFAULT now(),
    next_at            timestamptz NOT NULL DEFAULT now(),
    told_at            timestamptz,
    lease_number       bigint NOT NULL DEFAULT 0,
    leased_by          bigint,
    leased_until       timestamptz,
    UNIQUE (session_id, kind, endpoint_digest)
) WITH (fillfactor = 70);

CREATE INDEX outbox_due ON outbox (next_at) WHERE state = 'waiting';
CREATE INDEX outbox_open ON outbox (delivery_id) WHERE state <> 'told';

CREATE TABLE outbox_attempts (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox_id     bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
    attempted_at  timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL DEFAULT now(),
    status        integer,
    answer        text NOT NULL DEFAULT '',
    problem       text
);

CREATE INDEX outbox_attempts_of_letter ON outbox_attempts (outbox_id, id);
