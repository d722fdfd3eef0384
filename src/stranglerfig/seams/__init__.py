"""Evidence from a monolith (its catalogue, statements, sources, history) and the bounded contexts that it suggests."""
