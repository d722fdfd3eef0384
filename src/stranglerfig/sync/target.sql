-- What sync keeps in the target database, in the same transactions as the rows it applies.

-- How far each direction's changes are applied: the position of the last change that is in.
CREATE TABLE fig.applied (
    context             text NOT NULL,
    direction           text NOT NULL CHECK (direction IN ('forward', 'reverse')),
    generation          integer NOT NULL DEFAULT 0,
    lsn                 bigint NOT NULL DEFAULT 0,
    ordinal             bigint NOT NULL DEFAULT 0,
    -- where in the change topic the next record is read
    log_position        bigint NOT NULL DEFAULT 0,
    -- the highest epoch whose activation this stream has carried
    activated           bigint NOT NULL DEFAULT 0,
    -- microseconds since 1970
    source_committed_at bigint,
    snapshot_rows       bigint NOT NULL DEFAULT 0,
    snapshot_total      bigint NOT NULL DEFAULT 0,
    snapshot_began_at   timestamptz,
    snapshot_ended_at   timestamptz,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (context, direction)
);

-- Markers that have arrived: proof that everything before them is in.
CREATE TABLE fig.marker (
    context     text NOT NULL,
    direction   text NOT NULL,
    nonce       text NOT NULL,
    prefix      text NOT NULL,
    content     jsonb NOT NULL,
    lsn         bigint NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (context, direction, nonce)
);

-- Changes that were not applied: the tripwire's (a peer's change to what this side owns), and those that cannot be.
CREATE TABLE fig.parked (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    direction   text NOT NULL,
    lsn         bigint NOT NULL,
    ordinal     bigint NOT NULL,
    -- the row's number in a chunk of a snapshot, from 1; 0 for a streamed change
    row_number  bigint NOT NULL DEFAULT 0,
    reason      text NOT NULL CHECK (reason IN ('tripwire', 'error')),
    change      jsonb NOT NULL,
    error       text,
    statement   text,
    -- what a person decided about an error: leave the change out, or try it once more
    resolution  text CHECK (resolution IN ('skip', 'retry')),
    resolved_at timestamptz,
    at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (context, direction, lsn, ordinal, row_number)
);
