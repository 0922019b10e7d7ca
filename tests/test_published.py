"""Checkpoints of published programs beside the numbers that the programs themselves gave.

The files are in the folder that GENPAPERS_PUBLISHED names: `published_tiny.ckpt` and
`published_tiny_attention.ckpt`, and `published_tiny.npz` with what is expected of both."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import genpapers
from genpapers.nfpi.imported import import_published
from genpapers.nfpi.model import class_log_probs
from genpapers.nfpi.published import our_order

FOLDER = Path(os.environ.get("GENPAPERS_PUBLISHED", "nowhere"))
FILES = {  # the file, the configuration, and its numbers' first word
    "published_tiny.ckpt": ("mnist/mean", "plain"),
    "published_tiny_attention.ckpt": ("cifar10/mean", "attention"),
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="GENPAPERS_PUBLISHED names no folder")
@pytest.mark.parametrize("file", FILES)
def test_imported_flow_gives_the_published_numbers(file, tmp_path):
    name, word = FILES[file]
    with np.load(FOLDER / "published_tiny.npz") as numbers:
        expected = {
            k: torch.from_numpy(numbers[f"{word}_{k}"]) for k in ("input", "z", "loglik", "pred")
        }
    folder, new = import_published(FOLDER / file, name, tmp_path)
    assert new
    model = genpapers.load(folder).model.double()
    model.ready()
    with torch.no_grad():
        z = model.flow(expected["input"]).z
    loglik = class_log_probs(z, model.mu, model.v)
    assert (z - our_order(expected["z"], model.flow.config)).abs().max() < 1e-5
    assert (loglik - expected["loglik"]).abs().max() < 1e-5
    assert torch.equal(loglik.argmax(1), expected["pred"])
