"""The log: append, read, subscribe, positions."""
