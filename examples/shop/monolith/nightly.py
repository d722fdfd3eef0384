"""The nightly recount: writes the inventory's table directly, past every API.

``python -m monolith.nightly``; ``SHOP_NIGHTLY_DSN`` says where.
"""

from __future__ import annotations

import argparse
import os
import sys

import psycopg

RECOUNT = """
UPDATE inventory SET quantity = greatest(quantity - %(shrinkage)s, reserved), updated_at = clock_timestamp()
WHERE item_id %% %(every)s = 0
"""


def main() -> int:
    """Recount every n-th item; exit status 1 when the database refuses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1000, help="recount every n-th item")
    parser.add_argument("--shrinkage", type=int, default=0, help="pieces that each counted item turned out to lack")
    args = parser.parse_args()
    try:
        with psycopg.connect(os.environ["SHOP_NIGHTLY_DSN"], application_name="shop:nightly") as conn:
            counted = conn.execute(RECOUNT, {"every": args.every, "shrinkage": args.shrinkage}).rowcount
    except psycopg.Error as error:
        sys.stdout.write(f"recount refused: {str(error).strip()}\n")
        return 1
    sys.stdout.write(f"recounted {counted} items\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
