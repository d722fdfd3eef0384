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
