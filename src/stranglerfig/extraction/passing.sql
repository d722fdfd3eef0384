-- What passed through the façade and to whom, by hour; paths without what names one thing in them.
CREATE TABLE fig.passed (
    hour        timestamptz NOT NULL,
    side        text NOT NULL CHECK (side IN ('monolith', 'service', 'facade')),
    route       text NOT NULL,
    method      text NOT NULL,
    path        text NOT NULL,
    requests    bigint NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (hour, side, route, method, path)
);

-- How far the access log is in fig.passed (set in the same commit), and since when no line of it was missed.
CREATE TABLE fig.passing (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    inode       numeric,
    read_to     bigint NOT NULL
);

-- A row while the monolith is retired.
CREATE TABLE fig.retired (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    by          text NOT NULL,
    evidence    jsonb NOT NULL
);
