-- Where each extraction stands. Who owns a context's writes is not decided here but by the ownership rows.
CREATE TABLE fig.extraction (
    context     text PRIMARY KEY,
    stage       text NOT NULL,
    step        text NOT NULL DEFAULT '',
    visit       bigint NOT NULL DEFAULT 0,
    owner       text NOT NULL DEFAULT 'monolith',
    epoch       bigint NOT NULL DEFAULT 0,
    facts       jsonb NOT NULL DEFAULT '{}',
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- A visit is one stay in one step of one stage; evidence and verdicts belong to visits.
CREATE TABLE fig.visit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    stage       text NOT NULL,
    step        text NOT NULL,
    -- whose evidence this visit builds on: its own, or that of the visit it resumes
    evidence    bigint,
    entered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    left_at     timestamptz,
    gate        jsonb,
    left_by     text
);

-- What was asked of the controller. A command that a dead controller leaves running is taken up again by the next one,
-- bound to where the extraction stood when it was first claimed.
CREATE TABLE fig.command (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    verb        text NOT NULL,
    args        jsonb NOT NULL,
    asked_by    text NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
    attempts    integer NOT NULL DEFAULT 0,
    started_in  jsonb,
    result      jsonb,
    ended_at    timestamptz
);
CREATE INDEX ON fig.command (state, id);

CREATE TABLE fig.command_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command     bigint NOT NULL REFERENCES fig.command,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text NOT NULL,
    text        text NOT NULL,
    data        jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON fig.command_event (command, id);

-- One row a second of what the façade and the flows showed, for `fig watch` and the report's pictures.
CREATE TABLE fig.series (
    context     text NOT NULL,
    at          timestamptz NOT NULL,
    data        jsonb NOT NULL,
    PRIMARY KEY (context, at)
);

-- Switches, cut-overs, rollbacks, overrides: what the report lists.
CREATE TABLE fig.milestone (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text NOT NULL,
    data        jsonb NOT NULL
);
