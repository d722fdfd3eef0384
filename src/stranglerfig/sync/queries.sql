-- Statements of sync in the target database; those that move rows are made from the mapping (statements.py).

-- name: origin_exists
SELECT EXISTS (SELECT FROM pg_replication_origin WHERE roname = %s)

-- name: end_silent
-- Sessions of this session's name and role whose client has said nothing for too long: who lives says something.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND application_name = current_setting('application_name') AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => %s)

-- name: origins
SELECT roname FROM pg_replication_origin

-- name: begin_applied
INSERT INTO fig.applied (context, direction, partition) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING

-- name: read_applied
SELECT generation, lsn, ordinal, log_position, activated, source_committed_at,
       snapshot_rows, snapshot_total, snapshot_began_at, snapshot_ended_at, updated_at
FROM fig.applied WHERE (context, direction, partition) = (%s, %s, %s)

-- name: places
SELECT partition, generation, lsn, ordinal FROM fig.applied WHERE (context, direction) = (%s, %s)

-- name: first_place
-- What the first partition has to tell the others: they carry neither activations nor snapshots.
SELECT activated, snapshot_began_at, snapshot_ended_at FROM fig.applied
WHERE (context, direction, partition) = (%s, %s, 0)

-- name: advance
-- The compare is what keeps a worker that lost its place from writing: no row means that another one went on. It then
-- fails (22012), so that the COMMIT that was sent along with it commits nothing.
WITH moved AS (
    UPDATE fig.applied
    SET generation = %s, lsn = %s, ordinal = %s, log_position = %s, activated = %s, source_committed_at = %s,
        snapshot_rows = %s, snapshot_total = %s, snapshot_began_at = %s, snapshot_ended_at = %s, updated_at = now()
    WHERE (context, direction, partition) = (%s, %s, %s) AND (generation, lsn, ordinal, log_position) = (%s, %s, %s, %s)
    RETURNING 1
)
SELECT 1 / count(*) FROM moved

-- name: ownership
-- Locked: nobody becomes owner between this look and our commit.
SELECT state, epoch FROM fig.ownership WHERE context = %s FOR SHARE

-- name: still
-- Fails (22012) when the ownership row is no longer what it was when the batch was planned.
WITH here AS (SELECT state, epoch FROM fig.ownership WHERE context = %s FOR SHARE)
SELECT 1 / (coalesce((SELECT state FROM here), 'standby') = %s AND coalesce((SELECT epoch FROM here), 0) = %s)::int

-- name: may_replicate
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
            THEN has_parameter_privilege('session_replication_role', 'SET')
            ELSE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) END

-- name: known_types
SELECT array_agg(to_regtype(name) IS NOT NULL ORDER BY number) FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, number)

-- name: mark
INSERT INTO fig.marker (context, direction, nonce, prefix, content, lsn) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING

-- name: park
INSERT INTO fig.parked (context, direction, partition, lsn, ordinal, row_number, reason, change)
VALUES (%s, %s, %s, %s, %s, %s, 'tripwire', %s)
ON CONFLICT DO NOTHING

-- name: park_error
INSERT INTO fig.parked (context, direction, partition, lsn, ordinal, row_number, reason, change, error, statement)
VALUES (%s, %s, %s, %s, %s, %s, 'error', %s, %s, %s)
ON CONFLICT (context, direction, partition, lsn, ordinal, row_number) DO UPDATE
SET error = excluded.error, statement = excluded.statement, resolution = NULL, resolved_at = NULL, at = now()
RETURNING id

-- name: waiting_error
SELECT id, change, error FROM fig.parked
WHERE (context, direction, partition) = (%s, %s, %s) AND reason = 'error' AND resolution IS NULL ORDER BY id LIMIT 1

-- name: skips
SELECT lsn, ordinal, row_number FROM fig.parked
WHERE (context, direction, partition) = (%s, %s, %s) AND resolution = 'skip' AND lsn >= %s

-- name: listed
SELECT id, direction, lsn, ordinal, reason, change, error, statement, resolution, at FROM fig.parked
WHERE (context, direction) = (%s, %s) AND resolved_at IS NULL ORDER BY id

-- name: resolve
UPDATE fig.parked SET resolution = %s, resolved_at = now()
WHERE (context, direction, id) = (%s, %s, %s) AND reason = 'error' AND resolution IS NULL

-- name: count_parked
SELECT count(*) FILTER (WHERE reason = 'tripwire'), count(*) FILTER (WHERE reason = 'error' AND resolution IS NULL)
FROM fig.parked WHERE (context, direction, partition) = (%s, %s, %s)

-- name: count_conflicts
SELECT coalesce((SELECT met FROM fig.conflict_count WHERE (context, direction) = (%s, %s)), 0)

-- name: deadlock_timeout
SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000

-- name: give_way
-- Wait so long for a row that a writer holds. Who may, looks for a deadlock at once, so that sync is the one that ends.
SELECT set_config('lock_timeout', %s, true),
       CASE WHEN current_setting('is_superuser') = 'on' THEN set_config('deadlock_timeout', '10ms', true) END

-- name: blockers
-- Whom a session waits for: each with its name, and since when its transaction is open, in seconds.
SELECT b.pid, coalesce(a.application_name, ''), extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM unnest(pg_blocking_pids(%s)) AS b (pid) LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
ORDER BY b.pid

-- name: own_changes
-- Whether a change of this side's own is counted.
SELECT EXISTS (SELECT FROM fig.row_version WHERE context = %s AND local > 0)

-- name: removed
-- How many rows this transaction has removed from the tables so far, by whatever statement; null where nobody counts.
SELECT CASE WHEN current_setting('track_counts')::boolean THEN sum(pg_stat_get_xact_tuples_deleted(relid))::bigint END
FROM (
    SELECT unnest(%s::regclass[]) AS relid
    UNION
    SELECT p.relid FROM unnest(%s::regclass[]) AS t (root) CROSS JOIN LATERAL pg_partition_tree(t.root) AS p
) AS mapped

-- name: place_versions
-- A version where none is, so that there is something to lock; the keys are JSON arrays of texts. It says that nothing
-- has happened yet, and is gone again if this transaction does not commit.
INSERT INTO fig.row_version (context, pair, key)
SELECT %s, u.pair, ARRAY(SELECT jsonb_array_elements_text(u.key::jsonb))
FROM unnest(%s::text[], %s::text[]) AS u (pair, key)
ON CONFLICT DO NOTHING

-- name: versions
-- What is known of rows that both sides may change; the keys are JSON arrays of texts. Locked: a writer waits for us.
SELECT pair, key, local, peer, at, theirs FROM fig.row_version
WHERE context = %s AND (pair, key) IN (
    SELECT u.pair, ARRAY(SELECT jsonb_array_elements_text(u.key::jsonb)) FROM unnest(%s::text[], %s::text[]) AS u (pair, key))
ORDER BY pair, key FOR UPDATE

-- name: take_versions
-- Changes of the other side were taken in; what was changed here is not ours to count. The keys are JSON arrays of texts.
INSERT INTO fig.row_version (context, pair, key, peer, at, theirs)
SELECT %s, u.pair, ARRAY(SELECT jsonb_array_elements_text(u.key::jsonb)), u.peer, u.at, u.theirs
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::boolean[]) AS u (pair, key, peer, at, theirs)
ON CONFLICT (context, pair, key) DO UPDATE SET peer = excluded.peer, at = excluded.at, theirs = excluded.theirs

-- name: foreign_keys
-- For each foreign key of the tables: its name, its table, and the statement that counts the rows that refer to nothing.
SELECT c.conname, c.conrelid::regclass::text,
    format('SELECT count(*) FROM %%s AS c WHERE %%s AND NOT EXISTS (SELECT FROM %%s AS p WHERE %%s)',
        c.conrelid::regclass,
        string_agg(format('c.%%I IS NOT NULL', a.attname), ' AND ' ORDER BY k.n),
        c.confrelid::regclass,
        string_agg(format('p.%%I = c.%%I', f.attname, a.attname), ' AND ' ORDER BY k.n))
FROM pg_constraint AS c
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (here, there, n)
JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.here
JOIN pg_attribute AS f ON f.attrelid = c.confrelid AND f.attnum = k.there
WHERE c.contype = 'f' AND c.conrelid = ANY (%s::regclass[])
GROUP BY c.oid, c.conname, c.conrelid, c.confrelid

-- name: own_stages
SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relname LIKE 'fig\_stage\_%'

-- name: begin_derived
INSERT INTO fig.derived (context, partition) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: read_derived
SELECT generation, lsn, ordinal, log_position, events FROM fig.derived
WHERE (context, partition) = (%s, %s)

-- name: derived_places
SELECT partition, generation, lsn, ordinal FROM fig.derived WHERE context = %s

-- name: advance_derived
-- Never backwards: a worker that lost its place without knowing would make others wait for what is done.
UPDATE fig.derived
SET generation = %s, lsn = %s, ordinal = %s, log_position = %s, events = %s, updated_at = now()
WHERE (context, partition) = (%s, %s) AND (generation, lsn, ordinal) <= (%s, %s, %s)
