"""Traces and metrics of every part."""
