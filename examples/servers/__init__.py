"""The servers that a company already has, for tests, bench and demonstration: fetched, started and ended here.

PostgreSQL and Envoy come with the product; these do not. What is fetched stays in ``.servers`` in the checkout.
"""
