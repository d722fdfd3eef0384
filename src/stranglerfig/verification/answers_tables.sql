-- What the comparator of shadow reads found, in the control database.

-- Counts per route and second. compared = equal + mismatched + lagged + noise; dropped and errors were not compared.
CREATE TABLE fig.shadow (
    context     text NOT NULL,
    route       text NOT NULL,
    at          timestamptz NOT NULL,
    compared    int NOT NULL DEFAULT 0,
    equal       int NOT NULL DEFAULT 0,
    mismatched  int NOT NULL DEFAULT 0,
    lagged      int NOT NULL DEFAULT 0,
    noise       int NOT NULL DEFAULT 0,
    dropped     int NOT NULL DEFAULT 0,
    errors      int NOT NULL DEFAULT 0,
    PRIMARY KEY (context, route, at)
);

-- Answers that differed, redacted; the newest few per context.
CREATE TABLE fig.shadow_sample (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    route       text NOT NULL,
    at          timestamptz NOT NULL,
    verdict     text NOT NULL,
    request_id  text,
    path        text NOT NULL,
    differences jsonb NOT NULL,
    monolith    jsonb,
    service     jsonb
);
CREATE INDEX shadow_sample_context ON fig.shadow_sample (context, id);

-- Latencies in microseconds of pairs: the same request, at the same instant, by one clock. Index i of both arrays is a pair.
CREATE TABLE fig.shadow_latency (
    context     text NOT NULL,
    at          timestamptz NOT NULL,
    monolith_us int[] NOT NULL,
    service_us  int[] NOT NULL,
    PRIMARY KEY (context, at)
);

-- Before this second nothing is added to the counts any more: a difference is asked about again before it counts.
CREATE TABLE fig.shadow_settled (
    context     text PRIMARY KEY,
    until       timestamptz NOT NULL
);
