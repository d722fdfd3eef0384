-- Shipping's own tables: how many parcels each country's carrier still takes, and what was arranged.
CREATE TABLE carrier (
    country text PRIMARY KEY,
    room    integer NOT NULL CHECK (room >= 0)
);
CREATE TABLE shipment (
    order_id bigint PRIMARY KEY,
    country  text NOT NULL REFERENCES carrier,
    state    text NOT NULL CHECK (state IN ('arranged', 'cancelled'))
);

-- Messages that were handled, with what was answered: whoever asks again is told again.
CREATE TABLE inbox (
    consumer   text NOT NULL,
    source     text NOT NULL,
    id         text NOT NULL,
    answer     json,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, source, id)
);

-- Events on their way to the log, written in the transaction of their state. `seq` is the relay's; an extraction's
-- capture goes without.
CREATE TABLE outbox (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    topic         text NOT NULL,
    type          text NOT NULL,
    key           text NOT NULL,
    data          json NOT NULL,
    occurred_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject       text,
    dataschema    text,
    traceparent   text,
    correlationid text,
    causationid   text,
    tenantid      text
);
