"""Avro schemas: read with the place of every mistake, their normal form, resolution and differences."""
