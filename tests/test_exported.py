"""The exported package passes the notebooks' tests: export cells left out, the module's names in their place."""

import exported
import forked
import pytest
from places import LIBRARY, relative


@pytest.mark.parametrize("notebook", LIBRARY, ids=relative)
def test_exported(notebook):
    status, output = forked.run(exported.run, notebook, seconds=600)
    assert status == 0, output
