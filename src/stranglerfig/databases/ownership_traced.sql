-- A statement whose comment says to which trace it belongs (sqlcommenter: /*traceparent='00-…'*/, as OpenTelemetry's
-- instrumentations of many drivers write it) is not in the change stream with its comment. The guard, which sees the
-- statement, says it there: by the message by which any transaction says so.

-- The guard as it was, but for that. Arguments: the context, then the admitted roles.
CREATE OR REPLACE FUNCTION fig.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock_free boolean;
    ownership record;
    shape     text;
    key       text;
    seen      text;
    second    bigint;
    traced    text;
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
                SELECT o.side, o.state, o.epoch, o.enforcing, o.shared INTO ownership
                FROM fig.ownership o WHERE o.context = TG_ARGV[0] FOR SHARE;
                RAISE SQLSTATE 'FIG00';
            EXCEPTION WHEN SQLSTATE 'FIG00' THEN
                NULL;
            END;
        ELSE
            SELECT o.side, o.state, o.epoch, o.enforcing, o.shared INTO ownership
            FROM fig.ownership o WHERE o.context = TG_ARGV[0];
        END IF;
        IF ownership IS NULL OR (NOT ownership.shared AND (NOT lock_free
            OR (ownership.enforcing AND ownership.state NOT IN ('owner', 'intent')))) THEN
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
        -- Once per transaction and trace, and of what is sampled only. Strings and comments are not told apart: who
        -- writes such a text as a value has a span too many, and nothing else.
        IF position('traceparent=' IN current_query()) > 0 THEN
            traced := substring(current_query()
                FROM 'traceparent=(?:''|%27)?(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf])');
            IF traced <> coalesce(current_setting('fig.traced', true), '') THEN
                PERFORM set_config('fig.traced', traced, true);
                PERFORM pg_logical_emit_message(true, 'traceparent', traced);
            END IF;
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
