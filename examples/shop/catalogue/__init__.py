"""CatalogueService: what the shop sells and for how much; the second context that leaves the monolith."""
