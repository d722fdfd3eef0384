"""The monolith's own tests."""
