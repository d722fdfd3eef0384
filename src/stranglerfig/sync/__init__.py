"""Changes into a database, exactly once, and events derived from changes."""
