"""``python -m stranglerfig.cli.nursery DIR``: the program in which ``fig up`` has its roles born; not for people."""

from __future__ import annotations

import sys

from stranglerfig.cli.main import invoke
from stranglerfig.runtime import nursery


def main() -> None:
    """Serve births until the supervisor is gone; in a child, be its role."""
    directory = sys.argv[1]
    role = nursery.nurse()
    if role is not None:
        sys.exit(invoke(["--project", directory, "run", role]))


if __name__ == "__main__":
    main()
