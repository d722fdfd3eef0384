-- How far each context's events are derived from its forward changes; in the control database.
CREATE TABLE fig.derived (
    context      text PRIMARY KEY,
    generation   integer NOT NULL DEFAULT 0,
    lsn          bigint NOT NULL DEFAULT 0,
    ordinal      bigint NOT NULL DEFAULT 0,
    log_position bigint NOT NULL DEFAULT 0,
    events       bigint NOT NULL DEFAULT 0,
    updated_at   timestamptz NOT NULL DEFAULT now()
);
