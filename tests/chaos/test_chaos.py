"""Ten faults of the chaos script, drawn by a seed: the script itself compares every build with a quiet one."""

import subprocess
import sys

import pytest
from roots import HERE

pytestmark = pytest.mark.slow


def test_ten_seeded_faults_change_no_byte_and_leave_nothing_behind():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--kills", "10", "--seed", "1"],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** | **10** |" in done.stdout
