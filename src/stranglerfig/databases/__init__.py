"""What is true of a database: catalogue, preflight facts, markers, ownership and guards, canonical text."""
