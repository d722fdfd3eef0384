"""``python -m monolith``: the shop's one process."""

from __future__ import annotations

from examples.shop.commands import with_commands
from examples.shop.serving import serve_from_environment

from .app import create_app

if __name__ == "__main__":
    serve_from_environment(with_commands(create_app(), prefix="SHOP"), prefix="SHOP")
