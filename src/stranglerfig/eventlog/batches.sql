-- Records move into rows of many: a row of its own cost each event twice what its id and its bytes do.
CREATE TABLE fig.log_batch (
    topic_id    integer NOT NULL,
    partition   integer NOT NULL,
    -- the position of the first of its events; the others follow without a gap
    first       bigint NOT NULL,
    count       integer NOT NULL,
    -- which append it came with, and how many of that append's events stand in the rows before this one
    append      bigint NOT NULL,
    begins      integer NOT NULL,
    appended_at timestamptz NOT NULL,
    -- JSON, UTF-8: [ids, sources, types, times, content types, subjects, schemas, keys, traceparents, correlation ids,
    -- causation ids, tenants (left out where none has one), sizes], each a list or, but for the ids, the value that all
    -- have
    header      bytea NOT NULL,
    -- the events' data, one behind the other
    data        bytea NOT NULL,
    PRIMARY KEY (topic_id, partition, first)
);
-- Compressing what is read once or twice costs more than it saves.
ALTER TABLE fig.log_batch ALTER COLUMN header SET STORAGE EXTERNAL, ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE INDEX ON fig.log_batch (append);
CREATE SEQUENCE fig.log_append;

-- What makes an append idempotent. Where an event is, is said by its append's rows: so ids are written before the
-- partition's lock is taken, side by side with those of other appends.
CREATE TABLE fig.log_event (
    append   bigint NOT NULL,
    topic_id integer NOT NULL,
    -- of the event within its append, from 0
    number   integer NOT NULL,
    event_id text NOT NULL,
    PRIMARY KEY (topic_id, event_id)
);

CREATE TEMPORARY TABLE old ON COMMIT DROP AS
SELECT nextval('fig.log_append') AS append, r.* FROM fig.log_record AS r;

INSERT INTO fig.log_batch (topic_id, partition, first, count, append, begins, appended_at, header, data)
SELECT topic_id, partition, position, 1, append, 0, appended_at,
       convert_to(json_build_array(
           json_build_array(event_id), source, type, time, content_type, attributes ->> 'subject',
           attributes ->> 'dataschema', key, attributes ->> 'traceparent', attributes ->> 'correlationid',
           attributes ->> 'causationid', octet_length(data))::text, 'UTF8'),
       data
FROM old;
INSERT INTO fig.log_event (append, topic_id, number, event_id) SELECT append, topic_id, 0, event_id FROM old;
DROP TABLE fig.log_record, old;
