"""Capture from MariaDB: the snapshot is ours, the binary log is read by Debezium, and both become the same frames."""
