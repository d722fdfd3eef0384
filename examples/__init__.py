"""Worked examples of stranglerfig."""
