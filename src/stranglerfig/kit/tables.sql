-- What the kit keeps in a service's own database, beside the service's tables.

-- Messages on their way to the log, written in the transaction of the state that caused them. `seq` is taken after the
-- state's rows are locked, so that messages of one aggregate have it in the order of their commits.
CREATE TABLE fig.outbox (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text NOT NULL,
    topic         text NOT NULL,
    type          text NOT NULL,
    key           text NOT NULL,
    data          json NOT NULL,
    occurred_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject       text,
    dataschema    text,
    traceparent   text,
    correlationid text,
    causationid   text
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE fig.subscription (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- Events that were handled: a digest of source and id.
CREATE TABLE fig.inbox (
    subscription integer NOT NULL,
    event        uuid NOT NULL,
    handled_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription, event)
);
CREATE INDEX inbox_by_time ON fig.inbox USING brin (handled_at);

-- What was said in answer to commands: who asks again with another attempt of the same command is told again.
CREATE TABLE fig.reply (
    subscription integer NOT NULL,
    command      uuid NOT NULL,
    messages     json NOT NULL,
    said_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription, command)
);
CREATE INDEX reply_by_time ON fig.reply USING brin (said_at);

-- What is being handled, committed before it is: an event that kills its process is counted.
CREATE TABLE fig.attempt (
    subscription integer NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    position     numeric NOT NULL,
    count        integer NOT NULL,
    PRIMARY KEY (subscription, topic, partition)
);

-- Events that could not be handled, and behind them the later ones of their topic and key, in order.
CREATE TABLE fig.dead_letter (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription  integer NOT NULL,
    key           text NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    position      numeric NOT NULL,
    event         json NOT NULL,
    data          bytea NOT NULL,
    digest        uuid NOT NULL,
    -- null: it waits behind another one, or for what it is about
    error         text,
    attempts      integer NOT NULL DEFAULT 0,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    -- somebody asked for it to be tried again
    retry         boolean NOT NULL DEFAULT false,
    UNIQUE (subscription, digest)
);
CREATE INDEX dead_letter_by_key ON fig.dead_letter (subscription, key, id);

-- Aggregates that are kept as the events they recorded.
CREATE TABLE fig.stream_event (
    stream     text NOT NULL,
    version    bigint NOT NULL,
    type       text NOT NULL,
    dataschema text NOT NULL,
    data       json NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream, version)
);

CREATE TABLE fig.snapshot (
    stream  text PRIMARY KEY,
    version bigint NOT NULL,
    -- what the class was like: a snapshot of another form is passed over
    form    text NOT NULL,
    state   json NOT NULL
);

-- Answers to commands by their idempotency key; whoever repeats one gets the same again.
CREATE TABLE fig.answer (
    key      text PRIMARY KEY,
    answer   json NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX answer_by_time ON fig.answer USING brin (given_at);

-- Read models, each build of each version with its table in the schema `projections`.
CREATE SCHEMA projections;
CREATE TABLE fig.projection (
    name       text NOT NULL,
    version    integer NOT NULL,
    generation integer NOT NULL,
    -- building, serving, retired
    state      text NOT NULL,
    begun_at   timestamptz NOT NULL DEFAULT now(),
    served_at  timestamptz,
    PRIMARY KEY (name, version, generation)
);
CREATE UNIQUE INDEX projection_serving ON fig.projection (name) WHERE state = 'serving';

CREATE TABLE fig.projection_position (
    name       text NOT NULL,
    version    integer NOT NULL,
    generation integer NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    -- all before it is in
    position   numeric NOT NULL,
    PRIMARY KEY (name, version, generation, topic, partition),
    FOREIGN KEY (name, version, generation) REFERENCES fig.projection ON DELETE CASCADE
);

-- Ends the transaction when something that it rests on has changed meanwhile: it is to be done again.
CREATE FUNCTION fig.expect(unchanged bigint, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF unchanged IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION 'changed meanwhile: % of % rows are as they were', unchanged, wanted USING ERRCODE = '40001';
    END IF;
END $$;
