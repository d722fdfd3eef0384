"""The command fig, one file per command group; no decisions."""
