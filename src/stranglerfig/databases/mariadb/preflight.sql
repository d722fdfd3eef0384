-- What preflight asks a MariaDB.

-- name: server
SELECT @@version, @@log_bin, @@binlog_format, @@binlog_row_image, @@log_bin_compress, @@global.sql_mode,
    CAST(@@expire_logs_days * 86400 AS integer), @@binlog_expire_logs_seconds, current_user(),
    @@log_bin_trust_function_creators

-- name: grants
-- With those of the roles that are on.
SHOW GRANTS
