"""What every room stands on: errors, ids, clock, supervised tasks, PostgreSQL sessions and SQL kept in files."""
