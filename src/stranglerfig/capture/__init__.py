"""Changes out of a database. ``capture.capture`` is the room's verb."""
