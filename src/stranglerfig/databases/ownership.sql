-- Ownership of a context's writes, in each of the two databases concerned, and the guards that enforce it.

-- One permanent row per context: what this side is, and since which epoch. Every transition is a compare-and-set.
CREATE TABLE fig.ownership (
    context     text PRIMARY KEY,
    side        text NOT NULL CHECK (side IN ('monolith', 'service')),
    state       text NOT NULL CHECK (state IN ('owner', 'intent', 'fenced', 'ceded', 'standby')),
    epoch       bigint NOT NULL,
    nonce       text,
    enforcing   boolean NOT NULL DEFAULT false,
    -- the roles whose sessions pass the guards (ours); the triggers carry them as arguments, this is their record
    admitted    name[] NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Code that must write asks who owns; it has no rights on anything else here.
GRANT USAGE ON SCHEMA fig TO PUBLIC;

CREATE FUNCTION fig.owner(context text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN o.state IN ('owner', 'intent') THEN o.side
        WHEN o.state = 'fenced' THEN NULL
        WHEN o.side = 'monolith' THEN 'service'
        ELSE 'monolith'
    END
    FROM fig.ownership o WHERE o.context = $1
$$;
COMMENT ON FUNCTION fig.owner(text) IS
    'who owns the context''s writes, as seen from this database: monolith, service, or null while it is decided';

-- The advisory lock that writers of a context share, and the fence takes alone.
CREATE FUNCTION fig.ownership_lock(context text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended('fig.ownership:' || $1, 0) $$;

-- The guard. Arguments: the context, then the admitted roles.
CREATE FUNCTION fig.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock_free boolean;
    ownership record;
    shape     text;
    key       text;
    seen      text;
    second    bigint;
BEGIN
    -- By session_user: it cannot be taken on by SET ROLE or by a setting.
    IF NOT (session_user = ANY (TG_ARGV[1:])) THEN
        -- The lock first, then the row: a writer that has the lock before the fence took it keeps the fence waiting,
        -- one that comes later reads the fence's row. The other order would let a write through behind the fence.
        lock_free := pg_try_advisory_xact_lock_shared(hashtextextended('fig.ownership:' || TG_ARGV[0], 0));
        IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
            -- An old snapshot would still show us as the owner: locking the row fails with 40001 once it has changed.
            -- (FOR KEY SHARE does not.) The subtransaction is rolled back so that the row lock does not stay: an
            -- abort's compare-and-set must not wait for this transaction. The advisory lock stays, and is enough.
            BEGIN
                SELECT o.side, o.state, o.epoch, o.enforcing INTO ownership
                FROM fig.ownership o WHERE o.context = TG_ARGV[0] FOR SHARE;
                RAISE SQLSTATE 'FIG00';
            EXCEPTION WHEN SQLSTATE 'FIG00' THEN
                NULL;
            END;
        ELSE
            SELECT o.side, o.state, o.epoch, o.enforcing INTO ownership
            FROM fig.ownership o WHERE o.context = TG_ARGV[0];
        END IF;
        IF NOT lock_free OR ownership IS NULL
            OR (ownership.enforcing AND ownership.state NOT IN ('owner', 'intent')) THEN
            -- Not transactional: it must outlive the rollback that follows.
            PERFORM pg_logical_emit_message(false, 'fig.refused', json_build_object(
                'context', TG_ARGV[0], 'table', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME,
                'application', current_setting('application_name'), 'user', session_user,
                'statement', left(current_query(), 500), 'mode', 'refused', 'operation', TG_OP)::text);
            RAISE EXCEPTION USING
                ERRCODE = 'FIG01',
                MESSAGE = format('writes of %s.%s are refused here: context "%s" is %s', TG_TABLE_SCHEMA, TG_TABLE_NAME,
                    TG_ARGV[0], CASE
                        WHEN ownership IS NULL THEN 'unknown to this database'
                        WHEN ownership.state = 'fenced' OR NOT lock_free THEN 'being cut over'
                        WHEN ownership.side = 'monolith' THEN 'owned by the service'
                        ELSE 'owned by the monolith' END),
                DETAIL = format('this side is %s, state %s, epoch %s', ownership.side, ownership.state, ownership.epoch),
                HINT = format('Ask fig.owner(''%s'') who owns the data, and call its API instead of writing the table.',
                    TG_ARGV[0]);
        END IF;
        IF NOT ownership.enforcing THEN
            -- Observing: once per session, table and shape of statement in 5 s; a setting of the session remembers.
            shape := left(regexp_replace(current_query(), '''[^'']*''|\m\d+(\.\d+)?\M', '?', 'g'), 500);
            key := left(md5(TG_RELID::text || TG_OP || shape), 12);
            seen := coalesce(current_setting('fig.observed', true), '');
            second := extract(epoch FROM clock_timestamp())::bigint;
            IF coalesce(substring(seen FROM key || '@(\d+)')::bigint, 0) <= second - 5 THEN
                PERFORM set_config('fig.observed',
                    left(key || '@' || second || ' ' || regexp_replace(seen, key || '@\d+ ?', ''), 1200), false);
                PERFORM pg_logical_emit_message(false, 'fig.refused', json_build_object(
                    'context', TG_ARGV[0], 'table', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME,
                    'application', current_setting('application_name'), 'user', session_user,
                    'statement', shape, 'mode', 'observing', 'operation', TG_OP)::text);
            END IF;
        END IF;
    END IF;
    IF TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN
        RETURN NEW;
    END IF;
    RETURN OLD;  -- null for a statement trigger, whose answer is ignored
END
$$;
COMMENT ON FUNCTION fig.guard() IS 'refuses writes of a context that another side owns';

-- DDL on a context's tables while its fence stands. Needs a superuser to be attached.
CREATE FUNCTION fig.guard_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched record;
BEGIN
    FOR touched IN
        SELECT DISTINCT o.context, o.state, c.object_identity
        FROM pg_event_trigger_ddl_commands() c
        LEFT JOIN pg_index i ON c.classid = 'pg_class'::regclass AND i.indexrelid = c.objid
        JOIN pg_trigger t ON c.classid IN ('pg_class'::regclass, 'pg_trigger'::regclass)
            AND (t.tgrelid = coalesce(i.indrelid, c.objid) OR t.oid = c.objid)
        JOIN fig.ownership o ON t.tgname = 'fig_guard_' || o.context
    LOOP
        -- DDL that began before the fence is drained by it like a write.
        IF NOT pg_try_advisory_xact_lock_shared(hashtextextended('fig.ownership:' || touched.context, 0))
            OR (SELECT o.state = 'fenced' FROM fig.ownership o WHERE o.context = touched.context) THEN
            RAISE EXCEPTION USING
                ERRCODE = 'FIG02',
                MESSAGE = format('%s cannot be changed now: context "%s" is being cut over',
                    touched.object_identity, touched.context),
                HINT = 'Try again when the cut-over has ended; it takes a few seconds at most.';
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION fig.guard_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped record;
BEGIN
    FOR dropped IN
        SELECT DISTINCT o.context, d.object_identity
        FROM pg_event_trigger_dropped_objects() d
        JOIN fig.ownership o ON d.object_type = 'trigger' AND d.address_names[3] = 'fig_guard_' || o.context
    LOOP
        IF (SELECT o.state = 'fenced' FROM fig.ownership o WHERE o.context = dropped.context) THEN
            RAISE EXCEPTION USING
                ERRCODE = 'FIG02',
                MESSAGE = format('%s cannot be dropped now: context "%s" is being cut over',
                    dropped.object_identity, dropped.context),
                HINT = 'Try again when the cut-over has ended; it takes a few seconds at most.';
        END IF;
    END LOOP;
END
$$;
