"""Every notebook runs, by nbdev's rules; the paper notebooks at scale smoke, in a folder of their own."""

import subprocess
import sys

import pytest
from places import BIN, NOTEBOOKS, ROOT, environment, relative

SECONDS = 600


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_notebook(notebook):
    command = [sys.executable, BIN / "nbdev_test", "--path", notebook]
    done = subprocess.run(command, cwd=ROOT, env=environment(measured=False), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
