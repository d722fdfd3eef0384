-- name: due
-- Sagas that time has something to say to, for one worker at a time that has the code of their version.
SELECT id FROM fig.saga
WHERE due_at <= statement_timestamp() AND name || '/' || version = ANY (%(kinds)s) AND id = coalesce(%(only)s::text, id)
ORDER BY due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED

-- name: due_ids
SELECT id FROM fig.saga WHERE due_at <= statement_timestamp() AND name || '/' || version = ANY (%(kinds)s)
ORDER BY due_at LIMIT %(most)s

-- name: postpone
-- One that this worker cannot have go on: another one may, or a mended one.
UPDATE fig.saga SET due_at = clock_timestamp() + interval '30 seconds' WHERE id = %s AND due_at IS NOT NULL

-- name: next_due
-- Seconds until then.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM fig.saga
WHERE due_at IS NOT NULL AND name || '/' || version = ANY (%(kinds)s)

-- name: in_flight
SELECT name, version, count(*) FROM fig.saga WHERE ended_at IS NULL
GROUP BY name, version ORDER BY name, version

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
SELECT id, name, version, tenant, key, status, blocked, begun_at, ended_at, due_at, asked
FROM fig.saga
WHERE status = coalesce(%(status)s::text, status) AND name = coalesce(%(name)s::text, name)
  AND key = coalesce(%(key)s::text, key)
ORDER BY begun_at DESC LIMIT %(last)s

-- name: counted
SELECT name, status, count(*) FROM fig.saga GROUP BY name, status ORDER BY name, status

-- name: shown
SELECT id, name, version, key, status, blocked, flow, trace, data, course, history, lock, begun_at, ended_at, due_at,
    revision, asked, asked_by, tenant
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

-- name: know_flow
INSERT INTO fig.flow_kind (name, drawing) VALUES (%(name)s, %(drawing)s)
ON CONFLICT (name) DO UPDATE SET drawing = excluded.drawing, known_at = now()
WHERE flow_kind.drawing <> excluded.drawing

-- name: record_event
INSERT INTO fig.flow_event (flow, id, correlation, type, source, cause, at)
VALUES (%(flow)s, %(id)s, %(correlation)s, %(type)s, %(source)s, %(cause)s, %(at)s)
ON CONFLICT DO NOTHING

-- name: flow_kinds
SELECT drawing FROM fig.flow_kind ORDER BY name

-- name: flow_events
-- Those of one flow's correlation, or of the ones that began last (before another). Events of the same types may be no
-- part of any.
WITH begun AS (
    SELECT correlation, max(at) AS begun_at FROM fig.flow_event
    WHERE flow = %(flow)s AND correlation = coalesce(%(correlation)s::text, correlation) AND type = ANY (%(starts)s)
    GROUP BY correlation
    HAVING %(before)s::text IS NULL OR (max(at), correlation) < (%(before_at)s::timestamptz, %(before)s::text)
    ORDER BY begun_at DESC, correlation DESC LIMIT %(last)s
)
SELECT correlation, begun_at, id, type, source, cause, extract(epoch FROM at)::float8
FROM begun JOIN fig.flow_event USING (correlation) WHERE flow = %(flow)s
ORDER BY begun_at DESC, correlation DESC, at, id

-- name: flow_ways
-- How often each type followed from each.
SELECT c.type, e.type, count(*) FROM fig.flow_event AS e
JOIN fig.flow_event AS c ON c.flow = e.flow AND c.id = e.cause AND c.id <> e.id
WHERE e.flow = %(flow)s GROUP BY 1, 2

-- name: old_sagas
WITH old AS (
    SELECT ctid FROM fig.saga WHERE ended_at < now() - %(keep)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM fig.saga USING old WHERE saga.ctid = old.ctid

-- name: old_flow_events
WITH old AS (
    SELECT ctid FROM fig.flow_event WHERE at < now() - %(keep)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM fig.flow_event USING old WHERE flow_event.ctid = old.ctid

-- name: stray_flow_events
-- What belongs to no flow that began, an hour later.
WITH stray AS (
    SELECT e.ctid FROM fig.flow_event AS e JOIN fig.flow_kind AS k ON k.name = e.flow
    WHERE e.at < now() - least(interval '1 hour', %(keep)s) AND NOT EXISTS (
        SELECT FROM fig.flow_event AS s
        WHERE (s.flow, s.correlation) = (e.flow, e.correlation) AND k.drawing -> 'starts' ? s.type
    )
    LIMIT %(most)s FOR UPDATE OF e SKIP LOCKED
)
DELETE FROM fig.flow_event USING stray WHERE flow_event.ctid = stray.ctid

-- name: ends
SELECT extract(epoch FROM date_trunc('second', at))::float8, count(*), count(*) FILTER (WHERE NOT in_time)
FROM (
    SELECT in_time, CASE WHEN in_time THEN ended_at ELSE begun_at + %(within)s END AS at
    FROM (
        SELECT begun_at, ended_at, coalesce(ended_at <= begun_at + %(within)s, false) AS in_time FROM fig.saga
        WHERE name = ANY (%(names)s) AND begun_at > %(begun)s AND (ended_at > %(since)s OR ended_at IS NULL)
    ) AS saga
) AS verdict
WHERE at > %(since)s AND at <= %(until)s GROUP BY 1 ORDER BY 1

-- name: saga_figures
-- For how long the one that is due longest has waited for a worker, and how many need an operator.
SELECT coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - min(due_at))) FROM fig.saga
                 WHERE due_at IS NOT NULL), 0)::float8,
    (SELECT count(*) FROM fig.saga WHERE ended_at IS NULL AND blocked IS NOT NULL)

-- name: standing
-- Of each kind, how many that have not ended run, need an operator, or are stuck: what was due was not taken up for a
-- minute (no worker has their code, or none lives), or their time is over.
SELECT s.name,
    count(*) FILTER (WHERE blocked IS NULL),
    count(*) FILTER (WHERE blocked IS NOT NULL),
    count(*) FILTER (WHERE stuck)
FROM fig.saga AS s LEFT JOIN unnest(%(names)s::text[], %(within)s::float8[]) AS k(name, within) ON k.name = s.name
CROSS JOIN LATERAL (
    SELECT blocked IS NULL AND (due_at < now() - interval '1 minute' OR begun_at < now() - make_interval(secs => within))
) AS late(stuck)
WHERE ended_at IS NULL GROUP BY s.name

-- name: gone
-- Of a version's sagas that have not ended, and the newest that have: how many are in which phase of each step, and how
-- many ended how.
WITH looked AS (
    SELECT status, course FROM fig.saga WHERE ended_at IS NULL AND (name, version) = (%(name)s, %(version)s)
    UNION ALL
    SELECT status, course FROM (
        SELECT name, version, status, course FROM fig.saga WHERE ended_at IS NOT NULL
        ORDER BY ended_at DESC LIMIT %(last)s
    ) AS ended WHERE (name, version) = (%(name)s, %(version)s)
)
SELECT step.key, step.value ->> 0, count(*) FROM looked, jsonb_each(course -> 'steps') AS step GROUP BY 1, 2
UNION ALL
SELECT '', status, count(*) FROM looked GROUP BY 2
