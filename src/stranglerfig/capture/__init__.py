"""Changes out of a database."""
