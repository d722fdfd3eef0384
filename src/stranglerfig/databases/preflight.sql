-- What preflight asks a server before anything is touched.

-- name: server
-- Settings, slots and the rights of this role.
SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size'),
    current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
    current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)::int,
    current_user::text, current_database()::text, r.rolsuper,
    r.rolreplication OR EXISTS (
        SELECT FROM pg_roles g WHERE g.rolname IN ('rds_replication', 'cloudsqlreplica', 'azure_pg_admin')
            AND pg_has_role(current_user, g.oid, 'MEMBER')),
    has_database_privilege(current_database(), 'CREATE'),
    has_parameter_privilege('session_replication_role', 'SET')
FROM pg_roles r WHERE r.rolname = current_user

-- name: origin_functions
-- Functions of replication origins that this role may not call.
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('pg_replication_origin_create',
        'pg_replication_origin_drop', 'pg_replication_origin_oid', 'pg_replication_origin_session_setup')
    AND NOT has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1

-- name: rights
-- Per table: what this role lacks of it, and whether it may act as its owner.
SELECT w.name, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
        WHERE NOT has_table_privilege(c.oid, p)),
    pg_has_role(c.relowner, 'USAGE'), quote_ident(pg_get_userbyid(c.relowner))
FROM unnest(%(names)s::text[]) AS w(name)
JOIN pg_class c ON c.oid = to_regclass(w.name) JOIN pg_namespace n ON n.oid = c.relnamespace

-- name: old_transactions
-- Open longer than so many seconds, in this database, not ours.
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8, left(a.query, 200)
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    AND a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
    AND a.application_name NOT LIKE 'fig:%%'
ORDER BY a.xact_start

-- name: prepared
SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
WHERE database = current_database()

-- name: extensions
-- Extensions that the tables' column types come from.
SELECT DISTINCT e.extname FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid IN (t.oid, t.typelem, t.typbasetype)
    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid
WHERE a.attrelid = ANY (SELECT to_regclass(n) FROM unnest(%(names)s::text[]) n) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1

-- name: lacking
-- Which of these extensions and collations this database does not have.
SELECT 'extension', w FROM unnest(%(extensions)s::text[]) w WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = w)
UNION ALL
SELECT 'collation', w FROM unnest(%(collations)s::text[]) w WHERE NOT EXISTS (SELECT FROM pg_collation WHERE collname = w)
