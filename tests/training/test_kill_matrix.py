"""The short form of tests/kill_matrix.py: killed and damaged runs end bit-equal."""

import kill_matrix
import pytest
from run_forked import Forked


@pytest.mark.slow
def test_killed_and_damaged_runs_end_bit_equal():
    done = Forked(run_matrix).end(seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 killed runs" in done.stdout and "3 of 3 damaged checkpoints" in done.stdout


def run_matrix() -> None:
    raise SystemExit(kill_matrix.main([]))
