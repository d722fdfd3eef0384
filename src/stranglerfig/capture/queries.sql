-- name: server
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       (SELECT timeline_id FROM pg_control_checkpoint()),
       current_setting('server_version_num')::int,
       (pg_current_wal_lsn() - '0/0')::bigint,
       current_setting('wal_level')

-- name: slot
SELECT (confirmed_flush_lsn - '0/0')::bigint, (restart_lsn - '0/0')::bigint, wal_status, safe_wal_size, active_pid, plugin
FROM pg_replication_slots WHERE slot_name = %s

-- name: publication
SELECT p.oid::bigint, coalesce(array_agg(n.nspname || '.' || c.relname) FILTER (WHERE c.oid IS NOT NULL), '{}')
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
LEFT JOIN pg_class c ON c.oid = r.prrelid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s
GROUP BY p.oid

-- name: watch
-- One look at everything that may go wrong beside the stream.
SELECT (pg_current_wal_lsn() - '0/0')::bigint,
       (s.confirmed_flush_lsn - '0/0')::bigint, (s.restart_lsn - '0/0')::bigint, s.wal_status, s.safe_wal_size,
       s.active_pid,
       p.oid::bigint,
       (SELECT coalesce(array_agg(n.nspname || '.' || c.relname), '{}')
        FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE r.prpubid = p.oid)
FROM (SELECT 1) AS always
LEFT JOIN pg_replication_slots s ON s.slot_name = %(name)s
LEFT JOIN pg_publication p ON p.pubname = %(name)s

-- name: missing_tables
SELECT wanted.name FROM unnest(%s::text[]) AS wanted(name) WHERE to_regclass(wanted.name) IS NULL

-- name: types
-- Names of types as the change stream numbers them.
SELECT t.oid, t.modifier, format_type(t.oid::oid, t.modifier)
FROM unnest(%s::bigint[], %s::int[]) AS t(oid, modifier)

-- name: blockers
-- Transactions that a new slot's snapshot has to wait for: whoever has written, the oldest first.
SELECT pid, application_name, usename, state, extract(epoch FROM now() - xact_start)::float8
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 3

-- name: columns
-- Columns in the stream's order and with the stream's types; generated ones are not in the stream. The key is the
-- replica identity.
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       c.relreplident = 'f' OR a.attnum = ANY (coalesce(i.indkey::int2[], '{}')), c.relkind
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
LEFT JOIN pg_index i ON i.indrelid = c.oid
     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
WHERE c.oid = %s::regclass
ORDER BY a.attnum

-- name: leaves
-- The physical tables that hold a table's rows, with their size in pages and the rows the catalogue expects.
SELECT n.nspname, c.relname, (pg_relation_size(c.oid) / current_setting('block_size')::bigint)::bigint,
       CASE WHEN c.reltuples >= 0 AND c.relpages > 0
            THEN (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::bigint))::bigint
            ELSE (pg_relation_size(c.oid) / 100)::bigint END
FROM (
    SELECT relid FROM pg_partition_tree(%(table)s::regclass) WHERE isleaf
    UNION
    SELECT %(table)s::regclass WHERE (SELECT relkind FROM pg_class WHERE oid = %(table)s::regclass) = 'r'
) AS leaf
JOIN pg_class c ON c.oid = leaf.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'

-- name: heartbeat
SELECT pg_logical_emit_message(true, %s, '')

-- name: end_walsender
-- A walsender that outlived its capture holds the slot; only one of ours, on this slot, is ended.
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active_pid IS NOT NULL

-- name: drop_slot
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s


-- name: shapes
-- Columns as above, with what decides how Debezium delivers them: the type below all domains, or of an array its
-- element's. Last the table's replica identity.
WITH RECURSIVE below AS (
    SELECT t.oid AS top, t.oid, t.typtype, t.typbasetype, t.typtypmod AS modifier, t.typndims AS dimensions
    FROM pg_type t
    WHERE t.oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = ANY (%(tables)s::regclass[]) AND attnum > 0)
    UNION ALL
    SELECT b.top, t.oid, t.typtype, t.typbasetype, CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END,
           greatest(b.dimensions, t.typndims)
    FROM below b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       c.relreplident = 'f' OR a.attnum = ANY (coalesce(i.indkey::int2[], '{}')),
       coalesce(e.typname, t.typname), coalesce(e.typtype, t.typtype), e.oid IS NOT NULL,
       greatest(a.attndims, b.dimensions),
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE b.modifier END, a.attstorage,
       coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::regnamespace,
       c.relreplident
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN below b ON b.top = a.atttypid AND b.typtype <> 'd'
JOIN pg_type t ON t.oid = b.oid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_index i ON i.indrelid = c.oid
     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
WHERE c.oid = ANY (%(tables)s::regclass[])
ORDER BY c.oid, a.attnum

-- name: reading
-- Who reads a slot: a walsender's process id can come again, together with its beginning it cannot.
SELECT s.active_pid, coalesce(r.backend_start::text, '')
FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = %s

-- name: described_by
-- The catalogue's rows that say what `shapes` says of tables: of classes, types and namespaces.
WITH RECURSIVE types AS (
    SELECT atttypid AS oid FROM pg_attribute
    WHERE attrelid = ANY (%(tables)s::regclass[]) AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT made_of.oid FROM types JOIN pg_type t USING (oid),
         LATERAL (VALUES (t.typbasetype), (t.typelem)) AS made_of (oid)
    WHERE made_of.oid <> 0
)
SELECT %(tables)s::regclass[]::oid[],
       ARRAY (SELECT oid FROM types ORDER BY oid),
       ARRAY (SELECT relnamespace FROM pg_class WHERE oid = ANY (%(tables)s::regclass[])
              UNION SELECT typnamespace FROM types JOIN pg_type USING (oid) ORDER BY 1)

-- name: stamp
-- Who reads a slot, and the versions of the rows named by `described_by`: each change brings a transaction's number that
-- was not among them, or leaves fewer of them.
SELECT s.active_pid, coalesce(r.backend_start::text, ''), (SELECT coalesce(string_agg(version::text, ','), '') FROM (
    SELECT xmin FROM pg_class WHERE oid = ANY (%(classes)s::oid[])
    UNION ALL SELECT xmin FROM pg_attribute WHERE attrelid = ANY (%(classes)s::oid[]) AND attnum > 0
    UNION ALL SELECT xmin FROM pg_index WHERE indrelid = ANY (%(classes)s::oid[])
    UNION ALL SELECT xmin FROM pg_type WHERE oid = ANY (%(types)s::oid[])
    UNION ALL SELECT xmin FROM pg_namespace WHERE oid = ANY (%(namespaces)s::oid[])) AS rows (version))
FROM (SELECT) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = %(slot)s
LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid

-- name: claim
-- One relay per flow: held until the session ends.
SELECT pg_try_advisory_lock(hashtextextended('fig.relay.' || %s, 0))

-- name: foreign_origins
-- Replication origins that are not ours: what is applied under them is not seen by a stream with origin = none.
-- Origins are the server's, not the database's; those of subscriptions (pg_<oid>) tell whose they are.
SELECT o.roname FROM pg_replication_origin o
WHERE o.roname NOT LIKE 'fig\_%'
  AND (o.roname !~ '^pg_[0-9]+' OR EXISTS (
      SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
      WHERE d.datname = current_database() AND o.roname ~ ('^pg_' || s.oid || '(_|$)')))
ORDER BY 1
