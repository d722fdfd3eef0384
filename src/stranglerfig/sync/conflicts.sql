-- Rows that both sides changed: what came, what was here, and which of them stands.

CREATE TABLE fig.conflict (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    direction   text NOT NULL,
    -- the service's table, which names the pair, and the table of this database
    pair        text NOT NULL,
    table_name  text NOT NULL,
    key         text[] NOT NULL,
    -- the place of the change that came
    lsn         bigint NOT NULL,
    ordinal     bigint NOT NULL,
    rule        text,
    outcome     text NOT NULL CHECK (outcome IN ('theirs', 'ours', 'added', 'stopped')),
    -- the other side's row before and after its change; the row as it was here, null when there was none
    theirs      jsonb NOT NULL,
    ours        jsonb,
    at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (context, direction, lsn, pair, key)
);
CREATE INDEX conflict_added ON fig.conflict (context, direction, pair, key) WHERE outcome = 'added';

-- How many there were: looked at several times a second, so not counted then.
CREATE TABLE fig.conflict_count (
    context     text NOT NULL,
    direction   text NOT NULL,
    met         bigint NOT NULL,
    PRIMARY KEY (context, direction)
);

-- Counts a conflict in its own transaction, and keeps what is known of them small: of a row whose counters met the last
-- one, of the others the last 10,000 of a direction. Those that a person has to decide about stay.
CREATE FUNCTION fig.conflict_met() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO fig.conflict_count AS c (context, direction, met) VALUES (NEW.context, NEW.direction, 1)
    ON CONFLICT (context, direction) DO UPDATE SET met = c.met + 1
    RETURNING met INTO number;
    IF NEW.outcome = 'added' THEN
        DELETE FROM fig.conflict AS c
        WHERE (c.context, c.direction, c.pair, c.key) = (NEW.context, NEW.direction, NEW.pair, NEW.key)
            AND c.outcome = 'added' AND c.id < NEW.id;
    END IF;
    IF number % 100 = 0 THEN
        DELETE FROM fig.conflict AS c
        WHERE (c.context, c.direction) = (NEW.context, NEW.direction) AND c.outcome <> 'stopped' AND c.id <= (
            SELECT l.id FROM fig.conflict AS l
            WHERE (l.context, l.direction) = (NEW.context, NEW.direction) AND l.outcome <> 'stopped'
            ORDER BY l.id DESC OFFSET 10000 LIMIT 1);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER conflict_met AFTER INSERT ON fig.conflict FOR EACH ROW EXECUTE FUNCTION fig.conflict_met();
-- ALWAYS: sync may write with ordinary triggers off.
ALTER TABLE fig.conflict ENABLE ALWAYS TRIGGER conflict_met;
