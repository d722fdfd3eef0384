"""``python -m examples.shop.service``: the service's one process."""

from __future__ import annotations

from examples.shop.commands import with_commands
from examples.shop.service.app import create_app
from examples.shop.serving import serve_from_environment

if __name__ == "__main__":
    serve_from_environment(with_commands(create_app(), prefix="INVENTORY"), prefix="INVENTORY")
