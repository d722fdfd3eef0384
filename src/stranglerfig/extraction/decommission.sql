-- name: sizes
-- Bytes (with indexes and TOAST) and an estimate of the rows of the context's tables.
SELECT format('%%s.%%s', n.nspname, c.relname), pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
ORDER BY 1

-- name: load
-- What the database has done since its statistics began: differences of two readings give rates.
SELECT extract(epoch FROM clock_timestamp())::float8, xact_commit::float8, (tup_returned + tup_fetched)::float8,
       (tup_inserted + tup_updated + tup_deleted)::float8
FROM pg_stat_database WHERE datname = current_database()

-- name: sessions_on
-- Who works on the tables right now, other than us: sampled, because PostgreSQL keeps no history of readers.
SELECT DISTINCT a.application_name, a.usename::text, left(a.query, 200), format('%%s.%%s', n.nspname, c.relname)
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.relation = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
  AND a.usename <> session_user AND a.backend_type = 'client backend'

-- name: table_use
-- Reads and writes of each table since its statistics began.
SELECT format('%%s.%%s', schemaname, relname), coalesce(seq_scan, 0) + coalesce(idx_scan, 0),
       n_tup_ins + n_tup_upd + n_tup_del
FROM pg_stat_user_tables WHERE relid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)

-- name: dependents
-- Foreign keys from other tables, and views, that stand on the tables.
SELECT 'foreign key ' || conname, conrelid::regclass::text, confrelid::regclass::text
FROM pg_constraint
WHERE contype = 'f' AND confrelid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
  AND conrelid <> ALL (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
UNION
SELECT DISTINCT 'view', v.oid::regclass::text, d.refobjid::regclass::text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
  AND v.oid <> d.refobjid
ORDER BY 1, 2

-- name: privileges
-- Every privilege on the tables that somebody other than us and the owner holds; what a brown-out takes and gives back.
-- The owner keeps his: foreign keys are checked in his name, also when the reverse stream writes.
SELECT format('%%I.%%I', n.nspname, c.relname), CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END,
       a.privilege_type, a.is_grantable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
LEFT JOIN pg_roles g ON g.oid = a.grantee
WHERE c.oid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t) AND g.rolname IS DISTINCT FROM session_user
  AND a.grantee <> c.relowner
ORDER BY 1, 2, 3

-- name: owners
SELECT DISTINCT r.rolname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.oid = ANY (SELECT to_regclass(t) FROM unnest(%(tables)s::text[]) AS t)
