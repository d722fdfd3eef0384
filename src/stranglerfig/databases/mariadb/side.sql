-- What a cut-over asks a MariaDB besides the ownership row (as cutover.sql does PostgreSQL).

-- name: claim
SELECT get_lock(%s, 0)

-- name: stopped_holder
-- A controller that is stopped keeps its session and with it the lock; one that lives shows it every second.
SELECT p.id FROM information_schema.processlist p
WHERE p.id = is_used_lock(%s) AND p.id <> connection_id() AND p.command = 'Sleep' AND p.time_ms > 1000 * %s

-- name: try_row
-- Waits for nobody, so nobody waits behind it.
SELECT 1 FROM fig.guarded WHERE context = %s FOR UPDATE NOWAIT

-- name: old_writers
-- A transaction's beginning is told in the server's own time zone.
SET STATEMENT time_zone = 'SYSTEM' FOR SELECT t.trx_mysql_thread_id, p.user, timestampdiff(MICROSECOND, t.trx_started, now(6)) / 1e6
FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
WHERE t.trx_rows_modified > 0 AND t.trx_started < now(6) - INTERVAL %s SECOND AND p.id <> connection_id()
ORDER BY t.trx_started

-- name: counter
SELECT auto_increment FROM information_schema.tables WHERE table_schema = %s AND table_name = %s
