"""What is true of a MariaDB, in PostgreSQL's words: its catalogue, its values' texts, preflight facts, messages."""
