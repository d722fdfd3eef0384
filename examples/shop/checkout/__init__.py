"""Checkouts: what spans the monolith and InventoryService, run as a saga or as a flow; a service of its own."""
