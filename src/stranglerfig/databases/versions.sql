-- Versions of rows that both sides may change: which change here was the last, and up to which the other side's are in.
-- A change says both in the change stream, so that whoever applies it knows whether its author had seen what is here.

-- What changes are numbered by. It never goes back, also when versions are forgotten: a change that is on its way from
-- before then has a lower number than all that come after.
CREATE SEQUENCE fig.row_version_number;

CREATE TABLE fig.row_version (
    context text NOT NULL,
    -- the service's table, which names the pair; with '+' behind it for what only differences are applied to
    pair    text NOT NULL,
    key     text[] NOT NULL,
    -- the number of the last change made here, 0 for none
    local   bigint NOT NULL DEFAULT 0,
    -- that of the other side's last change that was applied here, or lost against ours
    peer    bigint NOT NULL DEFAULT 0,
    -- when what stands was written: microseconds since 1970, never before what it was written upon
    at      bigint NOT NULL DEFAULT 0,
    -- whether what stands is the other side's
    theirs  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (context, pair, key)
);

-- A row was changed here by somebody who is not sync: numbered, and said in the same transaction.
CREATE FUNCTION fig.row_changed(context text, pair text, key text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH version AS (
        INSERT INTO fig.row_version AS v (context, pair, key, local, at)
        VALUES ($1, $2, $3, nextval('fig.row_version_number'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
        ON CONFLICT (context, pair, key) DO UPDATE
        -- Taken while the row is locked, not the one above: a row's numbers are in the order of its changes.
        SET local = nextval('fig.row_version_number'), at = greatest(excluded.at, v.at + 1), theirs = false
        RETURNING v.local, v.peer, v.at
    )
    SELECT pg_logical_emit_message(true, 'fig.version', json_build_object(
        'context', $1, 'pair', $2, 'key', $3, 'local', local, 'peer', peer, 'at', at)::text)
    FROM version
$$;
REVOKE ALL ON FUNCTION fig.row_changed(text, text, text[]) FROM PUBLIC;
