"""The shop as it grew: catalogue, customers, orders, inventory and payments in one process on one database."""
