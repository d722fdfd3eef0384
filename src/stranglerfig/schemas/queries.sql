-- name: versions
-- One subject's history, oldest first.
SELECT subject, version, id, schema, registered_at, registered_by
FROM fig.schema WHERE subject = %(subject)s ORDER BY version

-- name: subjects
SELECT DISTINCT subject FROM fig.schema ORDER BY subject

-- name: lock_subject
-- Two registrations of one subject follow each other, so that each is compared with the latest.
SELECT pg_advisory_xact_lock(hashtextextended('fig.schema ' || %(subject)s, 0))

-- name: add
INSERT INTO fig.schema (subject, version, id, schema, registered_by)
VALUES (%(subject)s, %(version)s, %(id)s, %(schema)s, %(by)s)
