-- name: columns
-- A table's columns with the types that their values are sent as.
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute AS a WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped

-- name: snapshots
SELECT stream, version, form, state::text FROM fig.snapshot WHERE stream = ANY (%s)

-- name: events
-- What streams have recorded behind the versions that are known of them.
SELECT e.stream, e.version, e.type, e.dataschema, e.data::text
FROM unnest(%(streams)s::text[], %(after)s::bigint[]) AS w (stream, after)
JOIN fig.stream_event AS e ON e.stream = w.stream AND e.version > w.after
ORDER BY e.stream, e.version

-- name: append_events
-- A version that is there already fails all of it: somebody was faster.
INSERT INTO fig.stream_event (stream, version, type, dataschema, data)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[]::json[])

-- name: put_snapshots
INSERT INTO fig.snapshot (stream, version, form, state)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[]::json[])
ON CONFLICT (stream) DO UPDATE SET version = excluded.version, form = excluded.form, state = excluded.state

-- name: put_answer
INSERT INTO fig.answer (key, answer) VALUES (%s, %s)

-- name: answer
SELECT answer::text FROM fig.answer WHERE key = %s

-- name: subscription
-- The number of a subscription; it is made when it is new.
WITH made AS (INSERT INTO fig.subscription (name) VALUES (%(name)s) ON CONFLICT DO NOTHING RETURNING id)
SELECT id FROM made UNION ALL SELECT id FROM fig.subscription WHERE name = %(name)s LIMIT 1

-- name: attempt
-- Counts, before it is handled, what begins at a position; outlives the process, and need not outlive the server.
INSERT INTO fig.attempt AS a (subscription, topic, partition, position, count)
SELECT %(subscription)s, %(topic)s, %(partition)s, %(position)s, 1
FROM set_config('synchronous_commit', 'off', true)
ON CONFLICT (subscription, topic, partition) DO UPDATE SET position = excluded.position,
    count = CASE WHEN a.position <> excluded.position THEN 1 WHEN %(anew)s THEN a.count ELSE a.count + 1 END
RETURNING count

-- name: receive
-- Of these events those that were not handled before; a second member that has the same ones waits here for the first.
INSERT INTO fig.inbox (subscription, event)
SELECT %(subscription)s, e FROM unnest(%(events)b::uuid[]) AS e
ON CONFLICT DO NOTHING RETURNING event

-- name: put_replies
INSERT INTO fig.reply (subscription, command, messages)
SELECT %s, * FROM unnest(%b::uuid[], %b::text[]::json[])
ON CONFLICT DO NOTHING

-- name: replies
SELECT command, messages FROM fig.reply
WHERE subscription = %(subscription)s AND command = ANY (%(commands)b::uuid[])

-- name: now
SELECT clock_timestamp()

-- name: waiting
-- Of these keys those that have something of the topic parked, and whose that is.
SELECT DISTINCT nullif(event ->> 'tenantid', ''), key FROM fig.dead_letter
WHERE subscription = %(subscription)s AND topic = %(topic)s AND key = ANY (%(keys)b::text[])

-- name: park
INSERT INTO fig.dead_letter (subscription, key, topic, partition, position, event, data, digest, error, attempts)
VALUES (%(subscription)s, %(key)s, %(topic)s, %(partition)s, %(position)s, %(event)s, %(data)s, %(digest)s, %(error)s,
    %(attempts)s)
ON CONFLICT (subscription, digest) DO NOTHING

-- name: due
-- The first of each topic's key of each tenant's that somebody wants tried again, or that waited behind others which are
-- gone, or for what it is about.
SELECT id, key, topic, partition, position, event, data, digest
FROM (
    SELECT DISTINCT ON (key, topic, nullif(event ->> 'tenantid', '')) * FROM fig.dead_letter
    WHERE subscription = %(subscription)s ORDER BY key, topic, nullif(event ->> 'tenantid', ''), id
) AS first
WHERE (retry OR error IS NULL) AND id > %(after)s ORDER BY id LIMIT %(most)s

-- name: remove_letter
DELETE FROM fig.dead_letter WHERE id = %s

-- name: lock_letter
-- One process at a time tries a letter; the lock is its session's.
SELECT pg_try_advisory_lock(hashtext('fig.dead_letter'), %s::int)

-- name: unlock_letter
SELECT pg_advisory_unlock(hashtext('fig.dead_letter'), %s::int)

-- name: try_letter
-- Counted before it is tried, and durable: one that ends its process again and again waits for a person.
UPDATE fig.dead_letter SET retry = false, attempts = attempts + 1,
    error = CASE WHEN error IS NULL AND attempts + 1 < %(attempts)s THEN NULL
        ELSE coalesce(error, 'its process ended while it handled it') END
WHERE id = %(id)s AND (retry OR error IS NULL) RETURNING attempts

-- name: keep_letter
-- It failed once more: it waits for a person.
UPDATE fig.dead_letter SET error = %(error)s WHERE id = %(id)s

-- name: await_letter
-- What it is about is not here yet: it is tried again, uncounted, until that is not expected any more.
UPDATE fig.dead_letter SET attempts = 0,
    error = CASE WHEN parked_at < now() - make_interval(secs => %(seconds)s) THEN %(error)s END
WHERE id = %(id)s

-- name: unpublished
-- The oldest messages that are visible, but not those on their way, nor those of topics that cannot take any now.
SELECT seq, id, topic, type, key, data::text, occurred_at, subject, dataschema, traceparent, correlationid, causationid,
    tenantid
FROM fig.outbox WHERE topic <> ALL (%(without)s::text[]) AND seq <> ALL (%(moving)b::bigint[])
ORDER BY seq LIMIT %(most)s

-- name: published
DELETE FROM fig.outbox WHERE seq = ANY (%b::bigint[])

-- name: projection_builds
SELECT version, generation, state FROM fig.projection
WHERE name = %(name)s AND (version = %(version)s OR state <> 'building') ORDER BY version, generation

-- name: projection_lock
SELECT pg_advisory_xact_lock(hashtextextended('fig.projection ' || %(name)s, 0))

-- name: projection_begin
-- One more build of a version; returns its generation.
INSERT INTO fig.projection (name, version, generation, state)
SELECT %(name)s, %(version)s, coalesce(max(generation), 0) + 1, 'building'
FROM fig.projection WHERE (name, version) = (%(name)s, %(version)s)
RETURNING generation

-- name: projection_serving
-- Which build serves, if one does.
SELECT version, generation FROM fig.projection WHERE name = %(name)s AND state = 'serving'

-- name: projection_at
INSERT INTO fig.projection_position (name, version, generation, topic, partition, position)
VALUES (%(name)s, %(version)s, %(generation)s, %(topic)s, %(partition)s, 0)
ON CONFLICT (name, version, generation, topic, partition) DO UPDATE SET position = projection_position.position
RETURNING position

-- name: projection_reached
UPDATE fig.projection_position SET position = %(position)s
WHERE (name, version, generation, topic, partition)
    = (%(name)s, %(version)s, %(generation)s, %(topic)s, %(partition)s)

-- name: projection_positions
SELECT topic, partition, position FROM fig.projection_position
WHERE (name, version, generation) = (%(name)s, %(version)s, %(generation)s)

-- name: projection_held
-- Where the build that serves is; it stays there until the transaction ends.
SELECT at.topic, at.partition, at.position
FROM fig.projection_position AS at JOIN fig.projection AS p USING (name, version, generation)
WHERE p.name = %(name)s AND p.state = 'serving' FOR UPDATE OF at

-- name: projection_retire
UPDATE fig.projection SET state = 'retired' WHERE name = %(name)s AND state = 'serving'
RETURNING version, generation

-- name: projection_forget
-- Builds that were retired before; their tables are to be dropped.
DELETE FROM fig.projection WHERE name = %(name)s AND state = 'retired' RETURNING version, generation

-- name: forget_subscription
WITH gone AS (DELETE FROM fig.subscription WHERE name = %(name)s RETURNING id)
DELETE FROM fig.inbox WHERE subscription IN (SELECT id FROM gone)

-- name: projection_serve
UPDATE fig.projection SET state = 'serving', served_at = now()
WHERE (name, version, generation) = (%(name)s, %(version)s, %(generation)s)

-- name: projection_grants
-- Who may do what with a relation, beside its owner.
SELECT a.privilege_type, CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner

-- name: projection_kind
SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)

-- name: end_standing
-- Sessions of this name and role that stand within a transaction, their client silent for too long. The server's own
-- limit (idle_in_transaction_session_timeout) does not run within a pipeline, nor after one that ended with a Flush.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = %(name)s
  AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => %(seconds)s)

-- name: relay_lock
SELECT pg_try_advisory_lock(hashtextextended('fig.outbox', 0))

-- name: letters
-- What is parked: of each key what failed, and how many wait behind it.
SELECT d.id, s.name, nullif(d.event ->> 'tenantid', ''), d.key, d.event ->> 'type', d.event ->> 'id', d.topic,
    d.partition, d.position, d.error, d.attempts, d.parked_at, d.retry,
    (SELECT count(*) FROM fig.dead_letter AS b
        WHERE (b.subscription, b.key, b.topic) = (d.subscription, d.key, d.topic) AND b.id > d.id
        AND nullif(b.event ->> 'tenantid', '') IS NOT DISTINCT FROM nullif(d.event ->> 'tenantid', ''))
FROM fig.dead_letter AS d JOIN fig.subscription AS s ON s.id = d.subscription
WHERE d.error IS NOT NULL AND s.name = coalesce(%(subscription)s::text, s.name)
  AND position(coalesce(%(cause)s::text, '') IN d.error) > 0 AND d.id = coalesce(%(number)s::bigint, d.id)
ORDER BY d.id LIMIT %(last)s

-- name: letter
SELECT d.id, s.name, d.key, d.topic, d.partition, d.position, d.event, d.data, d.error, d.attempts, d.parked_at, d.retry
FROM fig.dead_letter AS d JOIN fig.subscription AS s ON s.id = d.subscription WHERE d.id = %s

-- name: retry_letter
UPDATE fig.dead_letter SET retry = true WHERE id = %s RETURNING id

-- name: discard_letter
DELETE FROM fig.dead_letter WHERE id = %s RETURNING id

-- name: projections
SELECT p.name, p.version, p.generation, p.state, p.begun_at, p.served_at,
    coalesce((SELECT json_agg(json_build_object('topic', topic, 'partition', partition, 'position', position)
                              ORDER BY topic, partition)
              FROM fig.projection_position AS at
              WHERE (at.name, at.version, at.generation) = (p.name, p.version, p.generation)), '[]')
FROM fig.projection AS p ORDER BY p.name, p.version, p.generation

-- name: old_handled
WITH old AS (
    SELECT ctid FROM fig.inbox WHERE handled_at < now() - %(keep)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM fig.inbox USING old WHERE inbox.ctid = old.ctid

-- name: old_replies
WITH old AS (
    SELECT ctid FROM fig.reply WHERE said_at < now() - %(keep)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM fig.reply USING old WHERE reply.ctid = old.ctid

-- name: old_answers
WITH old AS (
    SELECT ctid FROM fig.answer WHERE given_at < now() - %(keep)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM fig.answer USING old WHERE answer.ctid = old.ctid

-- name: handled
-- How many of these a subscription has handled, which are not parked.
SELECT count(*) FROM fig.inbox AS i JOIN fig.subscription AS s ON s.id = i.subscription
WHERE s.name = %(name)s AND i.event = ANY (%(events)b::uuid[])
  AND NOT EXISTS (SELECT FROM fig.dead_letter AS d WHERE (d.subscription, d.digest) = (i.subscription, i.event))

-- name: forget_handled
-- What is parked stays marked: it is handled from there.
WITH gone AS (
    DELETE FROM fig.inbox AS i USING fig.subscription AS s
    WHERE s.id = i.subscription AND s.name = %(name)s AND i.event = ANY (%(events)b::uuid[])
      AND NOT EXISTS (SELECT FROM fig.dead_letter AS d WHERE (d.subscription, d.digest) = (i.subscription, i.event))
    RETURNING i.subscription, i.event
), replies AS (
    DELETE FROM fig.reply AS r USING gone WHERE (r.subscription, r.command) = (gone.subscription, gone.event)
)
SELECT count(*) FROM gone

-- name: personal_keys
-- The keys of these subjects; they are made where there are none. What another transaction makes at this moment is
-- waited for, and found at the next look.
WITH wanted AS (SELECT DISTINCT unnest(%(subjects)b::text[]) AS subject),
made AS (
    INSERT INTO fig.personal_key (subject)
    SELECT subject FROM wanted WHERE NOT EXISTS (SELECT FROM fig.personal_key AS k WHERE k.subject = wanted.subject)
    ORDER BY subject ON CONFLICT DO NOTHING RETURNING subject, id::text, key
)
SELECT subject, id, key FROM made
UNION ALL SELECT subject, id::text, key FROM fig.personal_key JOIN wanted USING (subject)

-- name: personal_keys_of_ids
SELECT id::text, key FROM fig.personal_key WHERE id = ANY (%(ids)s::uuid[]) AND key IS NOT NULL

-- name: destroy_personal_key
-- Of a subject that has none as well: none is to be made. Returns nothing where it was destroyed before.
INSERT INTO fig.personal_key (subject, key, destroyed_at) VALUES (%(subject)s, NULL, now())
ON CONFLICT (subject) DO UPDATE SET key = NULL, destroyed_at = excluded.destroyed_at
WHERE personal_key.destroyed_at IS NULL RETURNING id::text

-- name: personal_key
SELECT made_at, destroyed_at FROM fig.personal_key WHERE subject = %s

-- name: drop_snapshots
DELETE FROM fig.snapshot WHERE stream = ANY (%b::text[])

-- name: outbox_figures
-- How many messages wait, and how long the oldest one has (the first in the order of the log).
SELECT (SELECT count(*) FROM fig.outbox),
    coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - occurred_at)) FROM fig.outbox
              ORDER BY seq LIMIT 1), 0)::float8

-- name: parked_figures
SELECT s.name, count(*) FILTER (WHERE d.error IS NOT NULL), count(*) FILTER (WHERE d.id IS NOT NULL AND d.error IS NULL)
FROM fig.subscription s LEFT JOIN fig.dead_letter d ON d.subscription = s.id GROUP BY s.name ORDER BY s.name
