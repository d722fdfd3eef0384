"""Protobuf schemas: read from source text or a descriptor, their normal form, wire rules and differences."""
