-- What PostgreSQL knows of what belongs together. Extensions' and stranglerfig's own objects are left out.

-- name: tables
-- Every table with its columns and primary key; partitions are their root's.
SELECT n.nspname, c.relname,
    ARRAY(SELECT json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
    ARRAY(SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum)::text[] AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'fig') AND n.nspname NOT LIKE 'fig\_%'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 1, 2

-- name: foreign_keys
SELECT sn.nspname, s.relname, tn.nspname, t.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k
JOIN pg_class s ON s.oid = k.conrelid JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY 1, 2, 5

-- name: views
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 1, 2

-- name: routines
-- Functions and procedures in SQL and PL/pgSQL, each with the tables whose triggers call it.
SELECT n.nspname, p.proname, l.lanname, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc),
    ARRAY(SELECT json_build_array(tn.nspname, c.relname) FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace tn ON tn.oid = c.relnamespace
        WHERE t.tgfoid = p.oid AND NOT t.tgisinternal AND t.tgparentid = 0) AS triggers
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql')
    AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'fig') AND p.proname NOT LIKE 'fig\_%'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
ORDER BY 1, 2

-- name: statistics
-- Where pg_stat_statements is, when it is installed.
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'

-- name: publishable
-- The tables that a publication can have: whether they are the role's, and whether each of their parts has what identifies
-- a row. Without that, PostgreSQL would refuse the monolith's own UPDATE of a published table.
SELECT c.oid, n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') AS ours, (
    SELECT bool_and(CASE p.relreplident
        WHEN 'f' THEN true
        WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = p.oid AND i.indisprimary AND i.indimmediate)
        WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = p.oid AND i.indisreplident)
        ELSE false END)
    FROM pg_class p
    WHERE p.oid = c.oid OR p.oid IN (SELECT relid FROM pg_partition_tree(c.oid)) AND p.relkind = 'r') AS identified
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'fig') AND n.nspname NOT LIKE 'fig\_%'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 2, 3

-- name: may_sample
-- What sampling needs of the server and of the role.
SELECT current_setting('wal_level'), r.rolreplication OR r.rolsuper,
    has_database_privilege(current_database(), 'CREATE'), current_user::text, current_database()::text
FROM pg_roles r WHERE r.rolname = current_user

-- name: claim_sample
-- One sample at a time in a database: its publications have fixed names. Held until the session ends.
SELECT pg_try_advisory_lock(hashtext('fig seams'), hashtext('sample'))

-- name: sample_slot
-- A slot that ends with this session, whatever happens to it.
SELECT pg_create_logical_replication_slot(%s, 'pgoutput', temporary => true)

-- name: drop_sample_slot
SELECT pg_drop_replication_slot(%s)

-- name: sampled
-- Of each transaction that has committed since the last look: the tables whose rows it changed. The kind of a message
-- and the table's oid are the first five bytes of it (PostgreSQL's manual, "Logical Replication Message Formats");
-- rows are not asked for, and never leave the server.
SELECT array_agg(DISTINCT ('x' || encode(substring(data FROM 2 FOR 4), 'hex'))::bit(32)::bigint::oid)
FROM pg_logical_slot_get_binary_changes(%s, NULL, %s, 'proto_version', '1', 'publication_names', %s)
WHERE chr(get_byte(data, 0)) IN ('I', 'U', 'D')
GROUP BY xid::text
