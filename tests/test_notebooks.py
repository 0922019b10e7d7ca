"""Every notebook runs, by nbdev's rules; paper notebooks at smoke, in a folder of their own."""

import json
import os
from pathlib import Path

import forked
import pytest
from places import NOTEBOOKS, cells, relative


def has_parameters(notebook: Path) -> bool:
    return any("parameters" in c["metadata"].get("tags", []) for c in cells(notebook))


def run(notebook: str, parameters: dict) -> None:
    from nbdev.test import nbdev_test

    os.environ["GENPAPERS_PARAMETERS"] = json.dumps(parameters)
    nbdev_test(path=notebook)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_notebook(notebook, tmp_path):
    given = {"scale": "smoke", "runs_dir": f"{tmp_path}/runs", "figures_dir": f"{tmp_path}/figures"}
    parameters = given if has_parameters(notebook) else {}
    status, output = forked.run(run, str(notebook), parameters, seconds=600, measured=False)
    assert status == 0, output
    assert "Success." in output, output
