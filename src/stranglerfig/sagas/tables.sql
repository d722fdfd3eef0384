-- Sagas of a service, in its own database.
CREATE TABLE fig.saga (
    id        text PRIMARY KEY,
    name      text NOT NULL,
    version   integer NOT NULL,
    -- of its first event, and the flow and the trace that it belongs to
    key       text NOT NULL,
    flow      text,
    trace     text,
    status    text NOT NULL,
    -- its fields
    data      jsonb NOT NULL,
    -- where its steps stand, what came early, which calls are to be made
    course    jsonb NOT NULL,
    history   jsonb NOT NULL,
    blocked   text,
    lock      text,
    begun_at  timestamptz NOT NULL,
    ended_at  timestamptz,
    -- when something is to be done although nothing happens
    due_at    timestamptz,
    revision  integer NOT NULL,
    -- what an operator wants: retry, resolve; a worker that has the code does it
    asked     text CHECK (asked IN ('retry', 'resolve')),
    asked_by  text
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX saga_due ON fig.saga (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX saga_open ON fig.saga (name, version) WHERE ended_at IS NULL;
CREATE INDEX saga_by_key ON fig.saga (key);
CREATE INDEX saga_by_end ON fig.saga (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX saga_waiting ON fig.saga (lock, begun_at) WHERE status = 'waiting';

-- Each version as it was declared, for those who look without having the code.
CREATE TABLE fig.saga_kind (
    name     text NOT NULL,
    version  integer NOT NULL,
    drawing  jsonb NOT NULL,
    known_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);

-- What one saga holds and others wait for.
CREATE TABLE fig.saga_lock (
    name text PRIMARY KEY,
    saga text NOT NULL
);

-- Choreographed flows as declared, and what was seen of them, by whoever records them.
CREATE TABLE fig.flow_kind (
    name     text PRIMARY KEY,
    drawing  jsonb NOT NULL,
    known_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE fig.flow_event (
    flow        text NOT NULL,
    id          text NOT NULL,
    correlation text NOT NULL,
    type        text NOT NULL,
    source      text NOT NULL,
    cause       text,
    at          timestamptz NOT NULL,
    PRIMARY KEY (flow, id)
);
CREATE INDEX flow_event_by_correlation ON fig.flow_event (flow, correlation);
CREATE INDEX flow_event_by_time ON fig.flow_event USING brin (at);
