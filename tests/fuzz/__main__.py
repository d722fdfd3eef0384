"""``python -m tests.fuzz [TARGET …] [--count N] [--seed S]``: look for inputs that break what reads them."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz import harness
from tests.fuzz.program import main
from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    sys.exit(main(TARGETS, argparse.ArgumentParser("tests.fuzz", description=__doc__), module=harness.__package__))
