"""The exported package passes the notebooks' tests: export cells left out, the module's names in their place."""

import subprocess
import sys

import pytest
from places import LIBRARY, ROOT, environment, relative

SECONDS = 600


@pytest.mark.parametrize("notebook", LIBRARY, ids=relative)
def test_exported(notebook):
    command = [sys.executable, ROOT / "tests" / "exported.py", notebook]
    done = subprocess.run(command, cwd=ROOT, env=environment(IN_TEST="1"), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
