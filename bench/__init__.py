"""What stranglerfig must reach, measured on real servers beside what PostgreSQL and plain tools make of the same."""
