-- What the system catalogues say of the tables an extraction names.

-- name: tables
-- One row per table that exists, in no order.
SELECT w.name, c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relispartition,
    CASE WHEN c.relispartition THEN (
        SELECT rn.nspname || '.' || rc.relname FROM pg_class rc JOIN pg_namespace rn ON rn.oid = rc.relnamespace
        WHERE rc.oid = pg_partition_root(c.oid)) END AS root,
    ARRAY(SELECT ln.nspname || '.' || lc.relname FROM pg_partition_tree(c.oid) p
        JOIN pg_class lc ON lc.oid = p.relid JOIN pg_namespace ln ON ln.oid = lc.relnamespace
        WHERE p.isleaf AND p.relid <> c.oid ORDER BY 1) AS leaves,
    pg_get_userbyid(c.relowner) AS owner, c.relreplident::text,
    ARRAY(SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND ((c.relreplident = 'd' AND i.indisprimary) OR (c.relreplident = 'i' AND i.indisreplident))
        ORDER BY array_position(i.indkey::int2[], a.attnum))::text[] AS identity_columns,
    c.reltuples::bigint,
    coalesce((SELECT sum(pg_total_relation_size(p.relid)) FROM pg_partition_tree(c.oid) p),
        pg_total_relation_size(c.oid))::bigint AS bytes,
    c.relrowsecurity
FROM unnest(%(names)s::text[]) AS w(name)
JOIN pg_class c ON c.oid = to_regclass(w.name) AND c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace

-- name: columns
SELECT a.attrelid::bigint, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    a.attgenerated <> '', a.attidentity <> '',
    CASE WHEN a.attcollation <> t.typcollation THEN co.collname END
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: uniques
SELECT i.indrelid::bigint, ic.relname,
    ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = i.indrelid
        AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ORDER BY array_position(i.indkey::int2[], a.attnum))::text[],
    i.indisprimary, NOT i.indimmediate, i.indpred IS NULL AND i.indexprs IS NULL
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indrelid = ANY (%(oids)s) AND i.indisunique
ORDER BY i.indrelid, NOT i.indisprimary, ic.relname

-- name: exclusions
-- The tables that have an exclusion constraint.
SELECT DISTINCT n.nspname || '.' || c.relname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = ANY (%(oids)s) AND k.contype = 'x'

-- name: checks
SELECT conrelid::bigint, conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE conrelid = ANY (%(oids)s) AND contype = 'c' ORDER BY conrelid, conname

-- name: foreign_keys
-- Those from or to the tables; of partitioned tables only the root's.
SELECT k.conname, sn.nspname || '.' || s.relname,
    ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o)::text[],
    tn.nspname || '.' || t.relname,
    ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o)::text[],
    pg_get_constraintdef(k.oid)
FROM pg_constraint k
JOIN pg_class s ON s.oid = k.conrelid JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
    AND (k.conrelid = ANY (%(oids)s) OR k.confrelid = ANY (%(oids)s))
ORDER BY 2, 1

-- name: triggers
-- Users' triggers; ours are left out.
SELECT n.nspname || '.' || c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgrelid = ANY (%(oids)s) AND NOT t.tgisinternal AND t.tgname NOT LIKE ALL ('{fig\\_guard\\_%%,fig\\_version\\_%%}')
ORDER BY 1, 2

-- name: sequences
-- Owned by a column (serial, identity), or only named in its default.
SELECT DISTINCT sn.nspname || '.' || s.relname, n.nspname || '.' || c.relname, a.attname, u.owned,
    q.seqincrement, q.seqcache, pg_sequence_last_value(s.oid)
FROM (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number, true AS owned
    FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    UNION ALL
    SELECT d.refobjid, f.adrelid, f.adnum, EXISTS (
        SELECT FROM pg_depend o WHERE o.classid = 'pg_class'::regclass AND o.objid = d.refobjid
            AND o.refobjid = f.adrelid AND o.deptype IN ('a', 'i'))
    FROM pg_depend d JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
    WHERE d.refclassid = 'pg_class'::regclass
) u
JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN pg_class c ON c.oid = u.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number
WHERE u.relation = ANY (%(oids)s)
ORDER BY 1, 2, 3

-- name: last_given
-- The last value given out (null: none yet), how many a session takes at once, the step, and how many sessions there
-- may be.
SELECT pg_sequence_last_value(s.seqrelid), s.seqcache, s.seqincrement,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())
FROM pg_sequence s WHERE s.seqrelid = to_regclass(%(name)s)

-- name: wider_type
-- The type that a sequence needs to reach a value, where the columns that it fills have room for it and it has none.
SELECT c.kind
FROM pg_sequence s
CROSS JOIN LATERAL (
    SELECT coalesce(min(CASE a.atttypid WHEN 'smallint'::regtype THEN 1 WHEN 'integer'::regtype THEN 2 ELSE 3 END), 0)
    FROM (
        SELECT d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('a', 'i')
        UNION
        SELECT f.adrelid, f.adnum FROM pg_depend d
        JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.seqrelid
    ) u JOIN pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number
) column_of (width)
CROSS JOIN LATERAL (
    SELECT CASE s.seqtypid WHEN 'smallint'::regtype THEN 1 WHEN 'integer'::regtype THEN 2 ELSE 3 END
) own (width)
CROSS JOIN LATERAL (SELECT (ARRAY['smallint', 'integer', 'bigint'])[column_of.width]) c (kind)
WHERE s.seqrelid = to_regclass(%(name)s) AND column_of.width > own.width
    AND (%(start)s::bigint > s.seqmax OR %(start)s::bigint < s.seqmin)

-- name: advance
SELECT setval(s.seqrelid::regclass, CASE WHEN s.seqincrement > 0
    THEN least(greatest(coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart), %(start)s), s.seqmax)
    ELSE greatest(least(coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart), %(start)s), s.seqmin) END)
FROM pg_sequence s WHERE s.seqrelid = to_regclass(%(name)s)

-- name: views
SELECT DISTINCT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END,
    vn.nspname || '.' || v.relname, n.nspname || '.' || c.relname
FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm') JOIN pg_namespace vn ON vn.oid = v.relnamespace
JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (%(oids)s) AND v.oid <> c.oid
ORDER BY 2, 3

-- name: functions
-- By their text: the catalogue does not know what a function's body uses.
SELECT 'function', n.nspname || '.' || p.proname, tn.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace tn ON tn.oid = c.relnamespace
JOIN pg_proc p ON coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~* ('\m' || regexp_replace(c.relname, '(\W)', '\\\1', 'g') || '\M')
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE c.oid = ANY (%(oids)s) AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'fig')
ORDER BY 2, 3
