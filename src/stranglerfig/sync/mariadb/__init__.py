"""Changes of the service into a monolith on MariaDB: PostgreSQL evaluates the mapping, MariaDB takes the rows."""
