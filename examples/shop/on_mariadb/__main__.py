"""``python -m examples.shop.on_mariadb``: the shop's one process."""

from __future__ import annotations

from examples.shop.serving import serve_from_environment

from .app import create_app

if __name__ == "__main__":
    serve_from_environment(create_app(), prefix="SHOP")
