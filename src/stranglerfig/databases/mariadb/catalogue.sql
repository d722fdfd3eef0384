-- What MariaDB's information_schema says of tables. Asked for one by one, by equality: else the server opens every
-- table that it has.

-- name: one_table
SELECT t.table_type, t.engine, t.table_rows, coalesce(t.data_length + t.index_length, 0),
    t.auto_increment
FROM information_schema.tables t
WHERE t.table_schema = %s AND t.table_name = %s

-- name: columns
-- An ENUM's or SET's own length is of no use; MariaDB says ALWAYS of what it computes.
SELECT c.column_name, c.data_type, c.column_type,
    CASE WHEN c.data_type IN ('binary', 'varbinary') THEN c.character_octet_length ELSE c.character_maximum_length END,
    c.numeric_precision, c.numeric_scale, c.datetime_precision, c.column_key = 'PRI', c.is_generated = 'ALWAYS',
    c.is_nullable = 'NO', c.column_default, c.extra LIKE '%%auto_increment%%'
FROM information_schema.columns c
WHERE c.table_schema = %s AND c.table_name = %s
ORDER BY c.ordinal_position

-- name: uniques
-- One on the beginning of a column's text is none on the column.
SELECT s.index_name, s.column_name, s.sub_part IS NULL
FROM information_schema.statistics s
WHERE s.table_schema = %s AND s.table_name = %s AND s.non_unique = 0
ORDER BY s.index_name <> 'PRIMARY', s.index_name, s.seq_in_index

-- name: checks
-- Without those that the type JSON is made of.
SELECT c.constraint_name, c.check_clause
FROM information_schema.check_constraints c
WHERE c.constraint_schema = %s AND c.table_name = %s AND c.check_clause NOT LIKE 'json_valid(%%'
ORDER BY 1

-- name: foreign_keys
-- Those from and to the tables.
SELECT r.constraint_name, concat(k.table_schema, '.', k.table_name), k.column_name,
    concat(k.referenced_table_schema, '.', k.referenced_table_name), k.referenced_column_name, r.delete_rule, r.update_rule
FROM information_schema.referential_constraints r
JOIN information_schema.key_column_usage k
    ON (k.constraint_schema, k.constraint_name, k.table_name) = (r.constraint_schema, r.constraint_name, r.table_name)
WHERE concat(k.table_schema, '.', k.table_name) IN %(names)s
    OR concat(k.referenced_table_schema, '.', k.referenced_table_name) IN %(names)s
ORDER BY 2, 1, k.ordinal_position

-- name: triggers
SELECT concat(t.event_object_schema, '.', t.event_object_table), t.trigger_name,
    concat(t.action_timing, ' ', t.event_manipulation, ' ', t.action_statement)
FROM information_schema.triggers t
WHERE concat(t.event_object_schema, '.', t.event_object_table) IN %s AND t.trigger_name NOT LIKE 'fig\\_guard\\_%%'
ORDER BY 1, 2

-- name: dependents
-- Views that use the tables, and routines that name them, by their text: the catalogue does not know more.
SELECT 'view', concat(v.table_schema, '.', v.table_name)
FROM information_schema.views v
WHERE v.view_definition LIKE %(quoted)s
UNION ALL
SELECT 'function', concat(r.routine_schema, '.', r.routine_name)
FROM information_schema.routines r
WHERE r.routine_definition REGEXP if(r.routine_schema = %(schema)s, %(word)s, %(elsewhere)s)
    AND r.routine_schema NOT IN ('sys', 'mysql', 'fig')
ORDER BY 2
