-- The durable record of cut-overs. Who owns is decided by the ownership rows; this says what was done, when and how far.
CREATE TABLE fig.journal (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    epoch       bigint NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('forward', 'back')),
    step        text NOT NULL,
    phase       text NOT NULL CHECK (phase IN ('before', 'after')),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX journal_context ON fig.journal (context, epoch, id);
