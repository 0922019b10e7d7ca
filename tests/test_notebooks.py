"""Every notebook runs, by nbdev's rules; the paper notebooks at scale smoke, in a folder of their own."""

import forked
import pytest
from places import NOTEBOOKS, relative


def run(notebook: str) -> None:
    from nbdev.test import nbdev_test

    nbdev_test(path=notebook)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_notebook(notebook):
    status, output = forked.run(run, str(notebook), seconds=600, measured=False)
    assert status == 0, output
    assert "Success." in output, output
