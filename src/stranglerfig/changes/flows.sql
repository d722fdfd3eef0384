-- A flow is one direction of one extraction: what should run, and what its capture and its sync last said.
CREATE TABLE fig.flow (
    context     text NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('forward', 'reverse')),
    capture_on  boolean NOT NULL DEFAULT false,
    sync_on     boolean NOT NULL DEFAULT false,
    -- whether capture begins with a snapshot when its slot is new; a higher generation asks for another one
    snapshot    boolean NOT NULL DEFAULT false,
    generation  integer NOT NULL DEFAULT 1,
    capture     jsonb NOT NULL DEFAULT '{}',
    capture_at  timestamptz,
    sync        jsonb NOT NULL DEFAULT '{}',
    sync_at     timestamptz,
    PRIMARY KEY (context, direction)
);
