"""What the tests of a session share, whichever process they run in."""

import os
from pathlib import Path

import pytest
import smoke

# What takes longest, in the order in which it begins: the workers end together.
LONGEST = (
    "test_every_page_is_whole[0]",
    "test_lab",
    "test_notebook[companion/",
    "test_cluster",
    "test_devices",
    "test_cli",
    "test_commands",
    "test_docs",
    "test_papers",
    "test_notebooks",
)


def pytest_collection_modifyitems(items) -> None:
    "The longest first; what shares a module stays together."
    items.sort(key=lambda item: [name not in item.nodeid for name in LONGEST])


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    "A folder of the session, the same for all of its processes."
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def papermill_run(shared):
    "A paper's notebook, run by papermill at scale smoke by whoever asks first."
    return lambda paper: smoke.papermill_run(paper, shared)
