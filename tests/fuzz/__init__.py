"""Fuzzing of everything that reads foreign bytes: real messages, altered, by the million; see ``harness``."""
