"""The short form of tests/kill_matrix.py: killed and damaged runs end bit-equal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_and_damaged_runs_end_bit_equal():
    done = subprocess.run(
        [sys.executable, str(TESTS / "kill_matrix.py")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 killed runs" in done.stdout and "3 of 3 damaged checkpoints" in done.stdout
