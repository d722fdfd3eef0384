-- Evidence: what was seen of a KPI in one second of one visit to a stage. Rows of a second may come in parts and add up.
CREATE TABLE fig.evidence (
    context   text NOT NULL,
    visit     bigint NOT NULL,
    kpi       text NOT NULL,
    at        bigint NOT NULL,             -- epoch seconds
    n         bigint NOT NULL,             -- samples
    k         bigint NOT NULL,             -- failures, or values not below the limit
    -- latencies, bucket → count (gates.bounds.bucket): the service's, and the monolith's beside it
    histogram jsonb NOT NULL DEFAULT '{}',
    baseline  jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (context, visit, kpi, at),
    CHECK (n >= 0 AND k BETWEEN 0 AND n)
);

-- How far a source of evidence (an access log) was read; moves in the transaction that stores what was read.
CREATE TABLE fig.evidence_offset (
    source   text PRIMARY KEY,
    position bigint NOT NULL
);

-- Facts and values: the last one counts, the history is kept.
CREATE TABLE fig.fact (
    context text NOT NULL,
    visit   bigint NOT NULL,
    kpi     text NOT NULL,
    at      timestamptz NOT NULL,
    fact    boolean,
    value   double precision,
    detail  text NOT NULL,
    PRIMARY KEY (context, visit, kpi, at)
);

CREATE TABLE fig.verdict (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context text NOT NULL,
    visit   bigint NOT NULL,
    scope   text NOT NULL,
    at      timestamptz NOT NULL,
    gate    jsonb NOT NULL
);
CREATE INDEX ON fig.verdict (context, visit, id);

-- How often a KPI was judged, so that no chance of error is spent twice. A scope is a gate or a weight step.
CREATE TABLE fig.look (
    context text NOT NULL,
    visit   bigint NOT NULL,
    scope   text NOT NULL,
    kpi     text NOT NULL,
    looks   jsonb NOT NULL,
    PRIMARY KEY (context, visit, scope, kpi)
);

CREATE FUNCTION fig.add_histograms(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN a = '{}' THEN b WHEN b = '{}' THEN a ELSE (
        SELECT jsonb_object_agg(key, total) FROM (
            SELECT key, sum(value::bigint) AS total
            FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) AS both_of_them
            GROUP BY key) AS added) END
$$;
