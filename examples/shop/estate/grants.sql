-- What stranglerfig's role may do in each of the estate's two databases; no superuser.
-- `fig plan` lists what is missing. Before: CREATE ROLE fig LOGIN REPLICATION;

-- Publications, triggers and moving tables to the holding schema want the tables' owner.
GRANT :owner TO fig;
-- The schema `fig` with the ownership row, and the holding schema.
GRANT CREATE ON DATABASE :database TO fig;
-- Who writes: pg_stat_activity of other roles.
GRANT pg_monitor TO fig;
-- A transaction that is older than a cut-over's budget is named, not ended; ending it is the operator's call.
-- Applying under a replication origin.
GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text) TO fig;
GRANT EXECUTE ON FUNCTION pg_replication_origin_drop(text) TO fig;
GRANT EXECUTE ON FUNCTION pg_replication_origin_oid(text) TO fig;
GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup TO fig;
-- Applying rows that were checked at their source, and short waits while guards are installed.
GRANT SET ON PARAMETER session_replication_role TO fig;
GRANT SET ON PARAMETER deadlock_timeout TO fig;
