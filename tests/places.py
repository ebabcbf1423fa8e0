"""Where things are that several tests look at."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SUITES = ROOT / "suites"
