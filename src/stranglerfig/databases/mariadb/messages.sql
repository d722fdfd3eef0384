-- What is ours in a monolith on MariaDB.

-- name: database
CREATE DATABASE IF NOT EXISTS fig CHARACTER SET utf8mb4 COLLATE utf8mb4_bin

-- name: message
-- Inserted rows are messages in the change stream; the table only has to have had them.
CREATE TABLE IF NOT EXISTS fig.message (
    id      bigint AUTO_INCREMENT PRIMARY KEY,
    prefix  varchar(60) NOT NULL,
    content longtext NOT NULL,
    at      timestamp(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE=InnoDB

-- name: applied
-- How far the changes of a direction are in. A transaction that begins with a row of it was written by sync: what it
-- counts up is there so that each has one.
CREATE TABLE IF NOT EXISTS fig.applied (
    context             varchar(60) NOT NULL,
    direction           varchar(10) NOT NULL,
    transactions        bigint NOT NULL DEFAULT 0,
    generation          bigint NOT NULL DEFAULT 0,
    lsn                 bigint NOT NULL DEFAULT 0,
    ordinal             bigint NOT NULL DEFAULT 0,
    log_position        decimal(65, 0) NOT NULL DEFAULT 0,
    activated           bigint NOT NULL DEFAULT 0,
    source_committed_at bigint,
    PRIMARY KEY (context, direction)
) ENGINE=InnoDB

-- name: both_there
SELECT count(*) FROM information_schema.tables WHERE table_schema = 'fig' AND table_name IN ('message', 'applied')

-- name: emit
INSERT INTO fig.message (prefix, content) VALUES (%s, %s)

-- name: sweep
-- By place and not by time: nobody has to agree on the time.
DELETE FROM fig.message WHERE id < (SELECT max(id) - %s FROM fig.message) LIMIT 1000

-- name: marker_applied
SELECT 1 FROM fig.marker WHERE context = %s AND direction = %s AND nonce = %s
