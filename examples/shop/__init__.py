"""The worked scenario: a shop's monolith loses its Inventory module to a service, under load."""
