"""stranglerfig moves a running monolith to a decoupled, event-driven architecture, one bounded context at a time."""

__version__ = "0.1.0"
