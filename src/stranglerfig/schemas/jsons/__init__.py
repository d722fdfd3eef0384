"""JSON Schemas: read with their references, compared by our rule of closed writers and tolerant readers."""
