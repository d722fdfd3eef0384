"""What capture, sync and verification share: the envelope, source positions, the mapping."""
