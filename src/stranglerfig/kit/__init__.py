"""What extracted services are written with."""
