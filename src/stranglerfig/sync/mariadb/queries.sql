-- What sync keeps in a MariaDB, in the same transactions as the rows it applies (as target.sql does in PostgreSQL; how
-- far it is stands in fig.applied, which capture knows as well).

-- name: marker
CREATE TABLE IF NOT EXISTS fig.marker (
    context    varchar(60) NOT NULL,
    direction  varchar(10) NOT NULL,
    nonce      varchar(120) NOT NULL,
    prefix     varchar(60) NOT NULL,
    content    longtext NOT NULL,
    lsn        bigint NOT NULL,
    applied_at timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    PRIMARY KEY (context, direction, nonce)
) ENGINE=InnoDB

-- name: parked
CREATE TABLE IF NOT EXISTS fig.parked (
    id          bigint AUTO_INCREMENT PRIMARY KEY,
    context     varchar(60) NOT NULL,
    direction   varchar(10) NOT NULL,
    lsn         bigint NOT NULL,
    ordinal     bigint NOT NULL,
    reason      varchar(10) NOT NULL CHECK (reason IN ('tripwire', 'error')),
    body        longtext NOT NULL,
    error       longtext,
    statement   longtext,
    resolution  varchar(10) CHECK (resolution IN ('skip', 'retry')),
    resolved_at timestamp(6) NULL,
    at          timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    UNIQUE (context, direction, lsn, ordinal)
) ENGINE=InnoDB

-- name: there
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'fig' AND table_name IN ('marker', 'parked', 'ownership')

-- name: claim
SELECT get_lock(%s, 0)

-- name: holder
SELECT is_used_lock(%s)

-- name: begin_applied
INSERT IGNORE INTO fig.applied (context, direction) VALUES (%s, %s)

-- name: read_applied
SELECT generation, lsn, ordinal, log_position, activated, source_committed_at
FROM fig.applied WHERE context = %s AND direction = %s

-- name: touch
-- First in each transaction: what capture knows our transactions by. It touches nothing where another worker went on.
UPDATE fig.applied SET transactions = transactions + 1
WHERE context = %s AND direction = %s AND generation = %s AND lsn = %s AND ordinal = %s AND log_position = %s

-- name: advance
UPDATE fig.applied
SET generation = %s, lsn = %s, ordinal = %s, log_position = %s, activated = %s, source_committed_at = %s
WHERE context = %s AND direction = %s

-- name: ownership
-- Locked: nobody becomes owner between this look and our commit.
SELECT state, epoch FROM fig.ownership WHERE context = %s LOCK IN SHARE MODE

-- name: mark
INSERT IGNORE INTO fig.marker (context, direction, nonce, prefix, content, lsn) VALUES (%s, %s, %s, %s, %s, %s)

-- name: park
INSERT IGNORE INTO fig.parked (context, direction, lsn, ordinal, reason, body) VALUES (%s, %s, %s, %s, 'tripwire', %s)

-- name: park_error
INSERT INTO fig.parked (context, direction, lsn, ordinal, reason, body, error, statement)
VALUES (%s, %s, %s, %s, 'error', %s, %s, %s)
ON DUPLICATE KEY UPDATE error = VALUES(error), statement = VALUES(statement), resolution = NULL, resolved_at = NULL,
    at = current_timestamp(6)

-- name: waiting_error
SELECT id, body, error FROM fig.parked
WHERE context = %s AND direction = %s AND reason = 'error' AND resolution IS NULL ORDER BY id LIMIT 1

-- name: skips
SELECT lsn, ordinal FROM fig.parked WHERE context = %s AND direction = %s AND resolution = 'skip' AND lsn >= %s

-- name: resolve
UPDATE fig.parked SET resolution = %s, resolved_at = current_timestamp(6)
WHERE context = %s AND direction = %s AND id = %s AND reason = 'error' AND resolution IS NULL

-- name: count_parked
SELECT count(*) FROM fig.parked WHERE context = %s AND direction = %s AND (reason = 'tripwire' OR resolution IS NULL)

-- name: listed
SELECT id, direction, lsn, ordinal, reason, body, error, statement, resolution, at FROM fig.parked
WHERE context = %s AND direction = %s AND resolved_at IS NULL ORDER BY id
