-- What a MariaDB knows of what belongs together in one database. fig's own objects there are left out.

-- name: columns
-- Every table's columns in order, each with whether it is part of the primary key.
SELECT c.table_name, c.column_name, c.column_type, c.is_nullable = 'YES', c.column_key = 'PRI'
FROM information_schema.tables t
JOIN information_schema.columns c ON (c.table_schema, c.table_name) = (t.table_schema, t.table_name)
WHERE t.table_schema = database() AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
ORDER BY c.table_name, c.ordinal_position

-- name: foreign_keys
-- Those from a table of the database, also to another database's.
SELECT k.table_name, k.referenced_table_schema = database(), k.referenced_table_name,
    k.constraint_name, group_concat(k.column_name ORDER BY k.ordinal_position SEPARATOR ', '),
    group_concat(k.referenced_column_name ORDER BY k.ordinal_position SEPARATOR ', ')
FROM information_schema.key_column_usage k
WHERE k.table_schema = database() AND k.referenced_table_name IS NOT NULL
GROUP BY 1, 2, 3, 4
ORDER BY 1, 4

-- name: views
SELECT v.table_name, v.view_definition
FROM information_schema.views v
WHERE v.table_schema = database()
ORDER BY 1

-- name: routines
-- The text of another's routine is NULL without the right to see it.
SELECT r.routine_name, lower(r.routine_type), r.routine_definition
FROM information_schema.routines r
WHERE r.routine_schema = database() AND r.routine_type IN ('FUNCTION', 'PROCEDURE') AND r.routine_name NOT LIKE 'fig\_%'
ORDER BY 1

-- name: triggers
SELECT t.trigger_name, t.event_object_table, t.action_statement
FROM information_schema.triggers t
WHERE t.trigger_schema = database() AND t.trigger_name NOT LIKE 'fig\_%'
ORDER BY 1

-- name: counts
-- Whether statements are counted at all.
SELECT @@performance_schema

-- name: statements
SELECT s.digest_text, s.count_star
FROM performance_schema.events_statements_summary_by_digest s
WHERE s.schema_name = database() AND s.digest_text IS NOT NULL
ORDER BY s.count_star DESC
LIMIT 5000
