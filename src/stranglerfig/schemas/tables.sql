-- Schemas of events: a subject is an event type; nothing here is ever changed or removed.
CREATE TABLE fig.schema (
    subject       text NOT NULL,
    version       integer NOT NULL CHECK (version > 0),
    id            text NOT NULL,
    schema        jsonb NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    registered_by text NOT NULL,
    PRIMARY KEY (subject, version),
    UNIQUE (subject, id)
);
