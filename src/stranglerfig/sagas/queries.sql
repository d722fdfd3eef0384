-- name: due
-- Sagas that time has something to say to, for one worker at a time.
SELECT id FROM fig.saga WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED

-- name: next_due
-- Seconds until then.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM fig.saga WHERE due_at IS NOT NULL

-- name: in_flight
SELECT name, version, count(*) FROM fig.saga WHERE ended_at IS NULL GROUP BY name, version ORDER BY name, version

-- name: wake
-- The one that has waited longest for a lock that is free.
UPDATE fig.saga SET due_at = clock_timestamp() WHERE id = (
    SELECT id FROM fig.saga WHERE lock = %s AND status = 'waiting' ORDER BY begun_at LIMIT 1 FOR UPDATE SKIP LOCKED
)

-- name: know
INSERT INTO fig.saga_kind (name, version, drawing) VALUES (%(name)s, %(version)s, %(drawing)s)
ON CONFLICT (name, version) DO UPDATE SET drawing = excluded.drawing, known_at = now()
WHERE saga_kind.drawing <> excluded.drawing

-- name: listed
SELECT id, name, version, key, status, blocked, begun_at, ended_at, due_at, asked
FROM fig.saga
WHERE status = coalesce(%(status)s::text, status) AND name = coalesce(%(name)s::text, name)
  AND key = coalesce(%(key)s::text, key)
ORDER BY begun_at DESC LIMIT %(last)s

-- name: counted
SELECT name, status, count(*) FROM fig.saga GROUP BY name, status ORDER BY name, status

-- name: shown
SELECT id, name, version, key, status, blocked, flow, trace, data, course, history, lock, begun_at, ended_at, due_at,
    revision, asked, asked_by
FROM fig.saga WHERE id = %s

-- name: ask
-- An operator's word for a saga that needs one; a worker takes it up.
UPDATE fig.saga SET asked = %(word)s, asked_by = %(by)s, due_at = clock_timestamp()
WHERE id = %(id)s AND blocked IS NOT NULL RETURNING id, name, key, blocked

-- name: kinds
SELECT name, version, drawing FROM fig.saga_kind ORDER BY name, version

-- name: phases
-- How many of a version's sagas that have not ended are where.
SELECT step.key, step.value ->> 0, count(*)
FROM fig.saga, jsonb_each(course -> 'steps') AS step
WHERE (name, version) = (%(name)s, %(version)s) AND ended_at IS NULL GROUP BY 1, 2
