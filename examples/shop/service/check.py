"""The service's own checks, as its team runs them: unit and integration tests with their coverage.

``python -m examples.shop.service.check [--coverage FILE]``; the integration tests run on a PostgreSQL of their own, or
on the one that ``INVENTORY_TEST_DSN`` names (an empty database).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


def main() -> int:
    """Run the tests; exit status 1 when one fails or less than 90 % is covered."""
    parser = argparse.ArgumentParser(prog="examples.shop.service.check", description=__doc__.split("\n\n")[0])
    parser.add_argument("--coverage", type=Path, help="write the coverage report (JSON) here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Whoever runs us may measure coverage of their own: ours is kept apart.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_CORE", "COVERAGE_"))}
        environment |= {"COVERAGE_FILE": str(Path(folder) / "coverage"), "PYTHONPATH": str(REPOSITORY)}
        config = Path(folder) / "coveragerc"
        config.write_text(
            "[run]\nbranch = true\nsource = examples.shop.service\nomit = */tests/*, */__main__.py, */check.py\n"
        )
        coverage = [sys.executable, "-m", "coverage"]

        def run(*arguments: str) -> int:
            return subprocess.run([*coverage, *arguments], cwd=REPOSITORY, env=environment, check=False).returncode

        tests = run("run", f"--rcfile={config}", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "tests"))
        if args.coverage:
            args.coverage.parent.mkdir(parents=True, exist_ok=True)
            run("json", f"--rcfile={config}", "-q", "-o", str(args.coverage.resolve()))
        covered = run("report", f"--rcfile={config}", "--fail-under=90")
    return 1 if tests or covered else 0


if __name__ == "__main__":
    sys.exit(main())
