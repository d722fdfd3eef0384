-- name: versions
-- Versions with their contents, by subject and number; each condition holds for all where its parameter is null.
SELECT v.subject, v.version, v.id, c.format, c.text,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(r.name, r.subject, r.version) ORDER BY r.ordinal), '[]')
        FROM fig.schema_reference AS r WHERE r.id = c.id),
       v.deleted_at IS NOT NULL, v.registered_at, v.registered_by
FROM fig.schema_version AS v JOIN fig.schema_content AS c USING (id)
WHERE (%(subject)s::text IS NULL OR v.subject = %(subject)s)
  AND (%(version)s::integer IS NULL OR v.version = %(version)s)
  AND (%(id)s::integer IS NULL OR v.id = %(id)s)
  AND (%(digest)s::bytea IS NULL OR c.digest = %(digest)s)
  AND (%(prefix)s::text IS NULL OR starts_with(v.subject, %(prefix)s))
  AND (%(deleted)s = 'also' OR (v.deleted_at IS NOT NULL) = (%(deleted)s = 'only'))
ORDER BY v.subject, v.version

-- name: subjects
-- Subjects that have versions of the kind asked for.
SELECT subject FROM fig.schema_version
WHERE starts_with(subject, %(prefix)s)
GROUP BY subject
HAVING CASE %(deleted)s WHEN 'also' THEN true
                        WHEN 'only' THEN every(deleted_at IS NOT NULL)
                        ELSE bool_or(deleted_at IS NULL) END
ORDER BY subject

-- name: greatest_id
SELECT coalesce(max(id), 0) FROM fig.schema_content

-- name: settings
-- Those of a subject and those for all.
SELECT subject, level, mode, normalize FROM fig.schema_subject WHERE subject IN ('', %(subject)s)

-- name: set
INSERT INTO fig.schema_subject (subject, level, mode, normalize)
VALUES (%(subject)s, %(level)s, %(mode)s, %(normalize)s)
ON CONFLICT (subject) DO UPDATE SET level = EXCLUDED.level, mode = EXCLUDED.mode, normalize = EXCLUDED.normalize

-- name: wait_at_most
-- For this transaction.
SELECT set_config('lock_timeout', %(milliseconds)s, true)

-- name: begin_subject
INSERT INTO fig.schema_subject (subject) VALUES (%(subject)s) ON CONFLICT DO NOTHING

-- name: lock_subject
-- Until the transaction's end nobody else registers or deletes here.
SELECT next FROM fig.schema_subject WHERE subject = %(subject)s FOR UPDATE

-- name: lock_referenced
-- Who deletes this version waits for who refers to it, and then sees the reference.
SELECT 1 FROM fig.schema_version
WHERE subject = %(subject)s AND version = %(version)s AND deleted_at IS NULL FOR SHARE

-- name: content_of
SELECT id FROM fig.schema_content WHERE digest = %(digest)s

-- name: digest_of
SELECT digest FROM fig.schema_content WHERE id = %(id)s

-- name: add_content
-- No row when another transaction added the same content meanwhile.
INSERT INTO fig.schema_content (digest, format, text) VALUES (%(digest)s, %(format)s, %(text)s)
ON CONFLICT (digest) DO NOTHING RETURNING id

-- name: import_content
INSERT INTO fig.schema_content (id, digest, format, text) VALUES (%(id)s, %(digest)s, %(format)s, %(text)s)

-- name: pass_imported
-- Ids that are given from here on lie behind the imported one.
SELECT setval(pg_get_serial_sequence('fig.schema_content', 'id'), greatest(nextval(
    pg_get_serial_sequence('fig.schema_content', 'id')), %(id)s))

-- name: add_reference
INSERT INTO fig.schema_reference (id, ordinal, name, subject, version)
VALUES (%(id)s, %(ordinal)s, %(name)s, %(subject)s, %(version)s)

-- name: add_version
INSERT INTO fig.schema_version (subject, version, id, registered_by)
VALUES (%(subject)s, %(version)s, %(id)s, %(by)s)

-- name: pass_version
UPDATE fig.schema_subject SET next = greatest(next, %(version)s + 1) WHERE subject = %(subject)s

-- name: lock_versions
SELECT version FROM fig.schema_version
WHERE subject = %(subject)s AND version = ANY(%(versions)s) ORDER BY version FOR UPDATE

-- name: referenced_by
-- Ids of contents that refer to a version and are registered themselves, softly deleted ones included if asked for.
SELECT DISTINCT r.id FROM fig.schema_reference AS r JOIN fig.schema_version AS v USING (id)
WHERE r.subject = %(subject)s AND r.version = %(version)s AND (%(deleted)s OR v.deleted_at IS NULL)
ORDER BY r.id

-- name: delete_softly
UPDATE fig.schema_version SET deleted_at = clock_timestamp()
WHERE subject = %(subject)s AND version = ANY(%(versions)s)

-- name: delete_for_good
DELETE FROM fig.schema_version WHERE subject = %(subject)s AND version = ANY(%(versions)s)

-- name: forget_settings
UPDATE fig.schema_subject SET level = NULL, mode = NULL, normalize = NULL WHERE subject = %(subject)s

-- name: undigested
SELECT id, format, text FROM fig.schema_content WHERE digest IS NULL ORDER BY id FOR UPDATE

-- name: digested
UPDATE fig.schema_content SET digest = %(digest)s, text = %(text)s WHERE id = %(id)s

-- name: same_content
UPDATE fig.schema_version SET id = %(other)s WHERE id = %(id)s

-- name: drop_content
DELETE FROM fig.schema_content WHERE id = %(id)s
