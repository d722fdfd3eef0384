-- Topics, their partitions, their records, and who has read how far.
CREATE TABLE fig.log_topic (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    partitions integer NOT NULL CHECK (partitions > 0),
    -- seconds; null keeps for ever
    retention  double precision,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One row per partition is the sequencer: whoever appends holds its lock until its commit, so positions are gapless and
-- in commit order. (A sequence would be neither: a late commit appears behind a reader that has gone past it.)
CREATE TABLE fig.log_partition (
    topic_id  integer NOT NULL,
    partition integer NOT NULL,
    -- where the next append goes, and the first position that is still kept
    next      bigint NOT NULL DEFAULT 0,
    first     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE fig.log_record (
    topic_id     integer NOT NULL,
    partition    integer NOT NULL,
    position     bigint NOT NULL,
    appended_at  timestamptz NOT NULL,
    time         timestamptz NOT NULL,
    event_id     text NOT NULL,
    source       text NOT NULL,
    type         text NOT NULL,
    content_type text NOT NULL,
    key          text,
    -- the optional CloudEvents attributes: subject, dataschema, traceparent, correlationid, causationid
    attributes   jsonb,
    data         bytea NOT NULL,
    PRIMARY KEY (topic_id, partition, position)
);
-- Compressing what is read once or twice costs more than it saves.
ALTER TABLE fig.log_record ALTER COLUMN data SET STORAGE EXTERNAL;
-- What makes an append idempotent.
CREATE UNIQUE INDEX log_record_event ON fig.log_record (topic_id, event_id);

CREATE TABLE fig.log_group (
    topic_id    integer NOT NULL,
    partition   integer NOT NULL,
    grp         text NOT NULL,
    -- where the group goes on
    position    bigint NOT NULL DEFAULT 0,
    member      text,
    lease_until timestamptz,
    PRIMARY KEY (topic_id, partition, grp)
);

CREATE TABLE fig.log_member (
    grp         text NOT NULL,
    member      text NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (grp, member)
);
