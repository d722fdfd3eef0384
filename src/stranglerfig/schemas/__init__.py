"""Event schemas: what each topic accepts, and their history."""
