-- What a cut-over asks the databases besides the ownership rows.

-- name: lock
-- One cut-over at a time in this database, while this session lives.
SELECT pg_try_advisory_lock(hashtextextended('fig.cutover', 0))

-- name: take_over
-- A controller that is stopped keeps its session and with it the lock; one that lives shows it every second.
SELECT count(pg_terminate_backend(a.pid)) > 0
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('fig.cutover', 0)
    AND a.pid <> pg_backend_pid() AND a.state_change < clock_timestamp() - make_interval(secs => %(seconds)s)

-- name: old_writers
-- Transactions that have written the tables (or hold the guards' lock) and have been open for long; not ours.
SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename::text),
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_stat_activity a
WHERE a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s) AND a.pid <> pg_backend_pid()
    AND a.application_name NOT LIKE 'fig:%%'
    AND EXISTS (
        SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND (
            (l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
                AND l.relation = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) t))
            OR (l.locktype = 'advisory' AND l.objsubid = 1
                AND (l.classid::bigint << 32 | l.objid::bigint) = fig.ownership_lock(%(context)s))))
ORDER BY a.xact_start
