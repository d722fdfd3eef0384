"""InventoryService: what the shop's Inventory module becomes, with a model and a database of its own."""
