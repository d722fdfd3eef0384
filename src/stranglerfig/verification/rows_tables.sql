-- Comparisons of rows: their progress while they run, their results when they have.
CREATE TABLE fig.verification (
    id             uuid PRIMARY KEY,
    context        text NOT NULL,
    direction      text NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    marker         text,
    rows_compared  bigint NOT NULL DEFAULT 0,
    differences    bigint,
    seconds        double precision,
    details        jsonb,
    progress       jsonb
);
CREATE INDEX ON fig.verification (context, finished_at DESC);
