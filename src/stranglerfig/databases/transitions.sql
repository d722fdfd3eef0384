-- name: read
-- What this side is; null row when the context was never installed here.
SELECT context, side, state, epoch, nonce, enforcing FROM fig.ownership WHERE context = %(context)s

-- name: read_shared
-- The same, kept from changing until the reader's transaction ends.
SELECT context, side, state, epoch, nonce, enforcing FROM fig.ownership WHERE context = %(context)s FOR SHARE

-- name: install
-- A side's first row; a row that is there stays what it is, only the admitted roles follow.
INSERT INTO fig.ownership (context, side, state, epoch, enforcing, admitted)
VALUES (%(context)s, %(side)s, %(state)s, %(epoch)s, %(enforcing)s, %(admitted)s)
ON CONFLICT (context) DO UPDATE SET admitted = excluded.admitted
RETURNING side

-- name: enforce
UPDATE fig.ownership
SET enforcing = %(enforcing)s, shared = %(shared)s, made_with = coalesce(%(made_with)s, made_with), updated_at = now()
WHERE context = %(context)s AND (enforcing, shared, made_with)
    IS DISTINCT FROM (%(enforcing)s, %(shared)s, coalesce(%(made_with)s, made_with))

-- name: made_with
-- What the cut-over was made with by which this side owns; no row when it does not.
SELECT made_with FROM fig.ownership WHERE context = %(context)s AND state IN ('owner', 'intent', 'fenced')

-- name: intend
-- Step 1, L: owner → intent(e). Epochs only grow, also over an attempt that was given up.
UPDATE fig.ownership SET state = 'intent', epoch = %(epoch)s, nonce = NULL, updated_at = now()
WHERE context = %(context)s AND state = 'owner' AND epoch < %(epoch)s
RETURNING context, side, state, epoch, nonce, enforcing

-- name: drain
-- Step 3: waits for the transactions that have written, keeps new writers out until this transaction has ended.
SELECT pg_advisory_xact_lock(fig.ownership_lock(%(context)s))

-- name: fence
-- Step 3, L: intent(e) → fenced(e, nonce), while the lock above is held. A guard that only observes is no fence.
UPDATE fig.ownership SET state = 'fenced', nonce = %(nonce)s, updated_at = now()
WHERE context = %(context)s AND state = 'intent' AND epoch = %(epoch)s AND enforcing
RETURNING context, side, state, epoch, nonce, enforcing

-- name: cede
-- Step 6, L: fenced(e, nonce) → ceded(e). The one point of no return.
UPDATE fig.ownership SET state = 'ceded', updated_at = now()
WHERE context = %(context)s AND state = 'fenced' AND epoch = %(epoch)s AND nonce = %(nonce)s
RETURNING context, side, state, epoch, nonce, enforcing

-- name: activate
-- Step 7, W: standby or ceded, below e, with the fence's marker applied → owner(e).
UPDATE fig.ownership o SET state = 'owner', epoch = %(epoch)s, nonce = %(nonce)s, updated_at = now()
WHERE o.context = %(context)s AND o.state IN ('standby', 'ceded') AND o.epoch < %(epoch)s AND EXISTS (
    SELECT FROM fig.marker m
    WHERE (m.context, m.direction, m.nonce) = (%(context)s, %(direction)s, %(nonce)s))
RETURNING context, side, state, epoch, nonce, enforcing

-- name: announce
-- The first thing in the new owner's stream: what commits before it is not the owner's.
SELECT pg_logical_emit_message(true, 'fig.activated', json_build_object(
    'context', %(context)s::text, 'epoch', %(epoch)s::bigint, 'nonce', %(nonce)s::text)::text)

-- name: abort
-- Any step before 6, L: intent(e) or fenced(e) → owner(e); the epoch stays used up.
UPDATE fig.ownership SET state = 'owner', nonce = NULL, updated_at = now()
WHERE context = %(context)s AND state IN ('intent', 'fenced') AND epoch = %(epoch)s
RETURNING context, side, state, epoch, nonce, enforcing

-- name: marker
-- Step 4: a marker in the change stream, only while the fence that it speaks for stands.
SELECT pg_logical_emit_message(true, 'fig.marker', %(content)s)

-- name: guards
-- The tables that carry this context's guard, firing always.
SELECT n.nspname || '.' || c.relname, t.tgargs
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname IN (%(trigger)s::text, %(trigger)s::text || '_truncate') AND t.tgenabled = 'A'
ORDER BY 1

-- name: kind
-- A table's kind, its exact name, and the exact names of its leaves when it is partitioned.
SELECT c.relkind::text, n.nspname, c.relname, ARRAY(
    SELECT pn.nspname || '.' || pc.relname
    FROM pg_partition_tree(c.oid) p JOIN pg_class pc ON pc.oid = p.relid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
    WHERE p.isleaf AND p.relid <> c.oid ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%(table)s)

-- name: blockers
-- Who stands in the way of a lock on a table.
SELECT DISTINCT a.application_name, a.pid, left(a.query, 200)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = to_regclass(%(table)s) AND l.granted AND a.pid <> pg_backend_pid()
ORDER BY 2
