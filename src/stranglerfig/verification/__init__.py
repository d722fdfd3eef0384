"""Do both sides hold the same? Rows, and answers."""
