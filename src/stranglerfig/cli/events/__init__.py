"""``fig events``: look into the log, hand it out, have it read again, and choose one."""
