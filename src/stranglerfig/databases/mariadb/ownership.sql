-- Ownership of a context's writes in a MariaDB, and the guards that enforce it (as ownership.sql does in PostgreSQL).

-- name: table
CREATE TABLE IF NOT EXISTS fig.ownership (
    context    varchar(60) PRIMARY KEY,
    side       varchar(10) NOT NULL CHECK (side IN ('monolith', 'service')),
    state      varchar(10) NOT NULL CHECK (state IN ('owner', 'intent', 'fenced', 'ceded', 'standby')),
    epoch      bigint NOT NULL,
    nonce      varchar(60),
    enforcing  boolean NOT NULL DEFAULT false,
    updated_at timestamp(6) NOT NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6)
) ENGINE=InnoDB

-- name: guarded
-- What guards ask. A row of its own: an intent, and an abort of one, wait for no writer.
CREATE TABLE IF NOT EXISTS fig.guarded (
    context varchar(60) PRIMARY KEY,
    -- whether everybody is refused but those whom a guard admits
    closed  boolean NOT NULL
) ENGINE=InnoDB

-- name: guard
-- A writer holds the row's shared lock until its transaction ends: who closes it waits for all that have written, and
-- who writes later reads what it became. A locking read sees the newest row, whatever the isolation. Who is refused
-- anyway takes no lock that a failed cut-over, or the way back, would wait for.
-- By user(), which is who connected: neither a role nor the definer of what runs.
CREATE PROCEDURE IF NOT EXISTS fig.guard(IN guarded varchar(60), IN touched varchar(140), IN admitted text)
    READS SQL DATA SQL SECURITY DEFINER
BEGIN
    DECLARE found_side, found_state varchar(10) DEFAULT NULL;
    DECLARE refusing boolean DEFAULT true;
    DECLARE said varchar(128);
    IF NOT find_in_set(substring_index(user(), '@', 1), admitted) THEN
        SELECT closed INTO refusing FROM fig.guarded WHERE context = guarded;
        IF NOT refusing THEN
            SELECT closed INTO refusing FROM fig.guarded WHERE context = guarded LOCK IN SHARE MODE;
        END IF;
        IF refusing THEN
            SELECT side, state INTO found_side, found_state FROM fig.ownership WHERE context = guarded;
            SET said = left(concat('writes of ', touched, ' are refused here: context "', guarded, '" is ', CASE
                WHEN found_state IS NULL THEN 'unknown to this database'
                WHEN found_state NOT IN ('ceded', 'standby') THEN 'being cut over'
                WHEN found_side = 'monolith' THEN 'owned by the service'
                ELSE 'owned by the monolith' END), 128);
            SIGNAL SQLSTATE '45F01' SET MESSAGE_TEXT = said, MYSQL_ERRNO = 1644;
        END IF;
    END IF;
END

-- name: guard_there
SELECT 1 FROM information_schema.routines WHERE routine_schema = 'fig' AND routine_name = 'guard'

-- name: read
SELECT context, side, state, epoch, nonce, enforcing FROM fig.ownership WHERE context = %(context)s

-- name: install
INSERT IGNORE INTO fig.ownership (context, side, state, epoch, enforcing)
VALUES (%(context)s, %(side)s, %(state)s, %(epoch)s, %(enforcing)s)

-- name: install_guarded
INSERT IGNORE INTO fig.guarded (context, closed) VALUES (%(context)s, %(enforcing)s AND %(state)s = 'standby')

-- name: close
UPDATE fig.guarded SET closed = true WHERE context = %(context)s

-- name: open
UPDATE fig.guarded SET closed = false WHERE context = %(context)s

-- name: enforce
UPDATE fig.ownership SET enforcing = %(enforcing)s WHERE context = %(context)s

-- name: intend
UPDATE fig.ownership SET state = 'intent', epoch = %(epoch)s, nonce = NULL
WHERE context = %(context)s AND state = 'owner' AND epoch < %(epoch)s

-- name: fence
-- A guard that only observes is no fence.
UPDATE fig.ownership SET state = 'fenced', nonce = %(nonce)s
WHERE context = %(context)s AND state = 'intent' AND epoch = %(epoch)s AND enforcing

-- name: cede
UPDATE fig.ownership SET state = 'ceded'
WHERE context = %(context)s AND state = 'fenced' AND epoch = %(epoch)s AND nonce = %(nonce)s

-- name: abort
UPDATE fig.ownership SET state = 'owner', nonce = NULL
WHERE context = %(context)s AND state = %(state)s AND epoch = %(epoch)s

-- name: activate
-- Step 7, W: standby or ceded, below e, with the fence's marker applied.
UPDATE fig.ownership o SET state = 'owner', epoch = %(epoch)s, nonce = %(nonce)s
WHERE o.context = %(context)s AND o.state IN ('standby', 'ceded') AND o.epoch < %(epoch)s AND EXISTS (
    SELECT 1 FROM fig.marker m
    WHERE m.context = %(context)s AND m.direction = %(direction)s AND m.nonce = %(nonce)s)

-- name: forget
DELETE FROM fig.ownership WHERE context = %(context)s

-- name: forget_guarded
DELETE FROM fig.guarded WHERE context = %(context)s

-- name: guards
SELECT trigger_schema, trigger_name, concat(event_object_schema, '.', event_object_table), action_statement
FROM information_schema.triggers WHERE trigger_name LIKE %(pattern)s ORDER BY 3, 2
