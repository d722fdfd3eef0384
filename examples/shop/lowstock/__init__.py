"""Low-stock alerts: a tiny service that lives on the inventory's events, unknown to their producer."""
