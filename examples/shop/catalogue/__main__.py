"""``python -m examples.shop.catalogue``: the service's one process."""

from __future__ import annotations

from examples.shop.catalogue.app import create_app
from examples.shop.serving import serve_from_environment

if __name__ == "__main__":
    serve_from_environment(create_app(), prefix="CATALOGUE")
