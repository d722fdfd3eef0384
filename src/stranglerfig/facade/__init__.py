"""The proxy in front of the monolith: routes, mirrors, weights and the fence."""
