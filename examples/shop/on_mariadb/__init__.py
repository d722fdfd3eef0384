"""The shop's inventory as an older shop has it: one process over a MariaDB."""
