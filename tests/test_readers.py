"""Whatever is done to a file, its reader gives what it holds or says file, reason and remedy."""

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from genpapers.base.files import UserError, file_digest, project_root, read_json, write_atomically
from genpapers.base.paper import find_paper
from genpapers.base.parameters import parameters_cell
from genpapers.companion.cli import main
from genpapers.companion.findings import recomputed
from genpapers.companion.ledger import entries, find_reproductions
from genpapers.companion.receiving import import_run, import_sentence
from genpapers.companion.sharing import RUN_FILES
from genpapers.data import colour, dsprites, polymnist, polymnist_archive, sources
from genpapers.data.folder import load_folder
from genpapers.data.planar import published_map
from genpapers.nfpi.classifier import classifier_weights
from genpapers.nfpi.published import published_flow
from genpapers.polymnist.foreign import load_foreign
from genpapers.train.checkpoint import load_state, save_state
from genpapers.train.loop import cut_metrics, read_metrics
from genpapers.train.runs import _read_answers
from genpapers.train.specs import FILES, finish, finished_record

TRIES = int(os.environ.get("GENPAPERS_TRIES", 10))  # damaged versions of a file
RAW_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
RAW_FILES += tuple(name.replace("train", "t10k") for name in RAW_FILES)


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


def digits(seed: int) -> list[bytes]:
    "Images and labels of the miniature collection, as idx files."
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (5, 8, 8), np.uint8), rng.integers(0, 10, 5, np.uint8)
    return [idx(images), idx(labels)]


@pytest.fixture
def tiny(monkeypatch) -> dict[str, bytes]:
    "The files of a miniature collection, of which `sources` knows the digests."
    files = dict(zip(RAW_FILES, digits(0) + digits(1)))
    md5 = [hashlib.md5(content).hexdigest() for content in files.values()]
    known = {"train": tuple(md5[:2]), "test": tuple(md5[2:])}
    collection = sources.IdxCollection("Tiny", tuple("0123456789"), known)
    monkeypatch.setitem(sources.IDX, "tiny", collection)
    return files


class Quiet(SimpleHTTPRequestHandler):
    "A handler that notes what is asked for."

    asked: list[str] = []

    def log_message(self, *_):
        self.asked.append(self.path)


@pytest.fixture
def mirror(tiny, tmp_path, monkeypatch):
    "A mirror of the collection on this machine, behind one that is down and one that is wrong."
    for name, content in tiny.items():
        write_atomically(tmp_path / "web" / "whole" / f"{name}.gz", gzip.compress(content))
        write_atomically(tmp_path / "web" / "page" / f"{name}.gz", b"<html>Log in first</html>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    mirrors = [f"{address}/{place}/" for place in ("nowhere", "page", "whole")]
    monkeypatch.setattr(
        torchvision.datasets, "Tiny", type("Tiny", (), {"mirrors": mirrors}), raising=False
    )
    monkeypatch.setattr(Quiet, "asked", [])
    yield server
    server.shutdown()
    server.server_close()


def output_of(result: Result) -> str:
    "What a command said, in one line."
    return " ".join(result.output.split())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_fetch_replaces_exactly_what_fails_verification(tiny, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("GENPAPERS_DATA", str(tmp_path / "data"))
    raw = tmp_path / "data" / "Tiny" / "raw"
    call = lambda *words: CliRunner().invoke(main, ["data", *words, "tiny"])
    for name, content in tiny.items():
        write_atomically(raw / name, content)
    write_atomically(raw / "notes.txt", "mine")
    assert call("verify").exit_code == 0

    (raw / RAW_FILES[0]).write_bytes(tiny[RAW_FILES[0]][:40])
    (raw / RAW_FILES[1]).unlink()
    write_atomically(raw / f"{RAW_FILES[2]}.gz", gzip.compress(tiny[RAW_FILES[2]]))
    (raw / RAW_FILES[2]).write_bytes(b"altered")  # but whole beside it, zipped
    before = contents(raw)
    assert "is truncated or altered (MD5" in output_of(call("verify"))
    assert call("fetch").exit_code == 0
    assert contents(raw) == before | {name: tiny[name] for name in RAW_FILES[:2]}
    fetched = [path for path in Quiet.asked if path.startswith("/whole/")]
    assert fetched == [f"/whole/{name}.gz" for name in RAW_FILES[:2]]
    assert call("verify").exit_code == 0
    assert len(sources._load.__wrapped__("tiny", "all", None)) == 10


def test_fetch_that_fails_leaves_all_as_it_was(tiny, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("GENPAPERS_DATA", str(tmp_path / "data"))
    write_atomically(tmp_path / "data" / "Tiny" / "raw" / RAW_FILES[0], b"half")
    before = contents(tmp_path / "data")
    (tmp_path / "web" / "whole" / f"{RAW_FILES[0]}.gz").unlink()
    result = CliRunner().invoke(main, ["data", "fetch", "tiny"])
    assert result.exit_code and contents(tmp_path / "data") == before
    for said in ("could not be downloaded", "HTTP Error 404", "page/ has other bytes", "; set"):
        assert said in output_of(result), said


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def picture(kind: str, mode: str = "RGB", size: tuple = (9, 7), **options) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(values).convert(mode)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return buffer.getvalue()


FOREIGN = (
    b"<!DOCTYPE html><html>Not found</html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"\0" * 400,
    b"\xff\xfe" + "step,name,value\n1,loss,2\n".encode("utf-16-le"),
    picture("PNG"),
    picture("JPEG"),
    picture("GIF"),
    npz(x=np.arange(5)),
    zipped(b"text"),
    gzip.compress(b"text"),
    pickle.dumps({"x": np.arange(3)}),
    b"[" * 5000,
    b"{}",
)


OTHERS = None, -1, 0.5, "x", [], {}, [{}], True, float("inf")


def altered(value: object, chance: random.Random) -> object:
    "Nested lists and dictionaries, somewhere in which stands another value, or one is missing."
    if not (value and isinstance(value, dict | list) and chance.random() < 0.8):
        return chance.choice(OTHERS)
    value = value.copy()
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if chance.random() < 0.2:
        del value[key]
    else:
        value[key] = altered(value[key], chance)
    return value


def damaged(whole: bytes, chance: random.Random) -> bytes:
    "A file that was cut, had bits turned or a block emptied, or is another; JSON of another form."
    if whole[:1] == b"{" and chance.random() < 0.5:
        return json.dumps(altered(json.loads(whole), chance)).encode()
    kind, size = chance.randrange(5), len(whole)
    if kind == 0:
        return whole[: chance.randrange(size)]
    if kind == 1:
        return chance.choice(FOREIGN)
    content = bytearray(whole)
    if kind == 2:
        start = chance.randrange(size)
        content[start : start + 64] = bytes(len(content[start : start + 64]))
        return bytes(content)
    near = 64 if kind == 3 else size  # headers are where parsers go wrong
    for _ in range(chance.choice((1, 1, 3, 20))):
        content[chance.randrange(min(near, size))] ^= 1 << chance.randrange(8)
    return bytes(content)


TABLES = {
    "table.csv": "file,smiling,hat\na.png,1,0\nb.png,-1,1\n",
    "list_attr_celeba.txt": "2\nhat cap\na.png 1 -1\nb.png 1 1\n",
}
ROWS = "step,name,value\n" + "".join(f"{t},loss,{1 / t}\n" for t in range(1, 30))
EXIF = Image.Exif()
EXIF[0x0112] = 6
PICTURES = {
    "a.png": picture("PNG"),
    "palette.png": picture("PNG", "P", transparency=3),
    "deep.png": picture("PNG", "I;16"),
    "a.jpg": picture("JPEG", exif=EXIF),
    "a.webp": picture("WEBP", exif=EXIF),
    "a.bmp": picture("BMP"),
    "a.gif": picture("GIF", "P"),
    "a.tif": picture("TIFF", exif=EXIF),
    "deep.tif": picture("TIFF", "I;16"),
    "a.ppm": picture("PPM"),
}
RECORDS = np.random.default_rng(0).integers(0, 9, (6, 3073), np.uint8)


def lay_out_run(folder: Path) -> Path:
    "A finished run's folder."
    folder.mkdir()
    (folder / "config.json").write_text('{"config": {"niterations": 30}}')
    (folder / "metrics.csv").write_text(ROWS)
    save_state(folder / "checkpoint.safetensors", {"step": 3, "model": {"w": torch.ones(3)}})
    finish(folder, 1.5)
    return folder


def mosaic() -> bytes:
    tiles = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tiles).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


Reader = tuple[Path, Callable]  # a whole file, and the call that reads it


def idx_readers(folder: Path, tiny: dict[str, bytes]) -> Iterator[Reader]:
    "A raw file and a zipped one."
    for place, ending in (("raw", ""), ("zipped", ".gz")):
        root = folder / place
        for name, content in tiny.items():
            content = gzip.compress(content) if ending else content
            write_atomically(root / "Tiny" / "raw" / (name + ending), content)
        read = partial(sources._load.__wrapped__, "tiny", "train", root)
        yield root / "Tiny" / "raw" / (RAW_FILES[0] + ending), read


def load_anew(name: str, root: Path) -> None:
    "Read a colour set, whether or not it was read before."
    colour._load.cache_clear()
    colour.load_colour(name, "train", root)


def colour_readers(folder: Path) -> Iterator[Reader]:
    "CIFAR's two versions, SVHN, mosaics, shards and dSprites."
    images, labels = RECORDS[:, 1:].reshape(-1, 3, 32, 32), RECORDS[:, 0]
    shard = npz(data=images, labels=labels)
    sets = {
        "cifar-10-batches-bin": {f"data_batch_{i}.bin": RECORDS.tobytes() for i in range(1, 6)},
        "cifar-10-batches-py": {"data_batch_1": pickle.dumps({b"data": images, b"labels": [1]})},
        "svhn": {"train_32x32.mat": b"MATLAB 5.0 MAT-file" + bytes(200)},
        "mosaics": {"labels.npz": npz(train=np.arange(4)), "data_batch_1.webp": mosaic()},
        "shards": {"a.npz": shard, "b.npz": shard},
    }
    for place, files in sets.items():
        name = "cifar10" if place.startswith("cifar") else place
        read = partial(load_anew, name, folder / place)
        for file, content in files.items():
            write_atomically(folder / place / place / file, content)
        for file in list(files)[:2]:
            yield folder / place / place / file, read
    sprites = write_atomically(folder / dsprites._FILE, npz(imgs=np.zeros((4, 64, 64), np.uint8)))
    yield sprites, partial(dsprites.load_dsprites, np.arange(4), folder)


def picture_readers(folder: Path) -> Iterator[Reader]:
    "Every kind of picture, and both kinds of table."
    for name, content in PICTURES.items():
        path = write_atomically(folder / name / name, content)
        yield path, partial(load_folder, path.parent, None, 8)
    for name, text in TABLES.items():
        path = write_atomically(folder / name / name, text)
        for picture_name in ("a.png", "b.png"):
            write_atomically(path.parent / picture_name, PICTURES["a.png"])
        yield path, partial(load_folder, path.parent, path, 8)


def polymnist_readers(folder: Path) -> Iterator[Reader]:
    "The official archive, what is prepared from it, and a background."
    any_number = {"train": None, "test": None}
    archive = folder / "zip" / polymnist_archive.ARCHIVE
    archive.parent.mkdir()
    Image.new("RGB", (28, 28), "red").save(png := io.BytesIO(), "PNG")
    with zipfile.ZipFile(archive, "w") as z:
        for split, d, c in itertools.product(("train", "test"), range(5), range(10)):
            z.writestr(f"PolyMNIST/{split}/m{d}/{c}.{c}.png", png.getvalue())
    prepare = partial(polymnist_archive.prepare_archive, archive, folder / "aside", any_number)
    yield archive, prepare
    yield archive, lambda: polymnist_archive.official_folder(archive.parent) or prepare()
    ready = polymnist_archive.prepare_archive(archive, folder / "arrays", any_number)
    yield ready / "digests.json", partial(polymnist_archive.read_prepared, ready, "train")
    yield ready / "train.safetensors", partial(polymnist_archive.read_prepared, ready, "train")
    large = write_atomically(folder / "large" / "a.png", picture("PNG", size=(40, 30)))
    yield large, partial(polymnist.read_picture, large)


def run_readers(folder: Path) -> Iterator[Reader]:
    "A finished run as a whole, and its files alone."
    run, alone = lay_out_run(folder / "run"), lay_out_run(folder / "alone")
    for name in (*FILES, "done.json"):
        yield run / name, partial(finished_record, run)
    yield alone / "config.json", partial(read_json, alone / "config.json")
    yield alone / "checkpoint.safetensors", partial(load_state, alone / "checkpoint.safetensors")
    yield alone / "metrics.csv", partial(read_metrics, alone / "metrics.csv")
    yield alone / "metrics.csv", partial(cut_metrics, alone / "metrics.csv", 20)


def other_readers(folder: Path) -> Iterator[Reader]:
    "Notebooks, weights of classifiers, published maps and checkpoints."
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a: int = 1"]}
    notebook = write_atomically(folder / "a.ipynb", json.dumps({"cells": [cell]}))
    yield notebook, partial(parameters_cell, notebook)
    weights = folder / "net.safetensors"
    save_file({"conv1.weight": torch.ones(2, 1, 3, 3), "fc.bias": torch.zeros(2)}, weights)
    yield weights, partial(classifier_weights, weights)
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 10
    pickled, packed = pickle.dumps({"x": x, "y": y}), npz(x=x, y=y)
    maps = {"tsne_cifar10_data_file.pickle": pickled, "tsne_cifar10.npz": packed}
    for place, (name, content) in enumerate(maps.items()):
        path = write_atomically(folder / str(place) / name, content)
        yield path, partial(published_map, path.parent)
    torch.save({"state_dict": {"mu_arr": torch.ones(3)}}, folder / "a.ckpt")
    yield folder / "a.ckpt", partial(published_flow, folder / "a.ckpt")


RECORD = {
    "paper": "toy",
    "name": "dots",
    "entry": "genpapers.nfpi.training:build_flow",
    "config": {"niterations": 30},
    "seed": 0,
    "data": {"mnist5k": "0" * 64},
    "needs": {"flow": "0" * 16},
    "device": "cpu",
    "devices": 1,
    "precision": "float32",
    "code": "0" * 64,
    "versions": {"torch": "2.0", "numpy": "2.0"},
}


def packed(folder: Path) -> Path:
    "The files of a run's folder, their digests made anew, as an archive in it."
    digests = {name: file_digest(folder / name) for name in FILES if (folder / name).is_file()}
    (folder / "done.json").write_text(json.dumps({"seconds": 1.5, "digests": digests}))
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for name in RUN_FILES:
            archive.write(folder / name, name)
    return folder / "packed.zip"


def import_anew(archive: Path) -> None:
    "Import an archive where nothing is, and say what has come."
    with TemporaryDirectory() as runs:
        import_sentence(*import_run(archive, runs))


def received_readers(folder: Path) -> Iterator[Reader]:
    "What others send: archives, files in them, generators; and what a paper's results say."
    run = lay_out_run(folder / "sent")
    (run / "config.json").write_text(json.dumps(RECORD))
    for name in FILES:
        yield run / name, lambda: import_anew(packed(run))
    yield packed(run), partial(import_anew, run / "packed.zip")
    torch.jit.save(torch.jit.script(Segments()), folder / "a.pt")
    yield folder / "a.pt", partial(load_foreign, folder / "a.pt")
    with zipfile.ZipFile(folder / "a.pt2", "w") as archive:
        for name, content in (("models/model.json", "{}"), ("archive_format", "none")):
            archive.writestr(f"a/{name}", content)
    yield folder / "a.pt2", partial(load_foreign, folder / "a.pt2")
    answers = write_atomically(folder / "precision.json", '{"a": {"precision": "float32"}}')
    yield answers, partial(_read_answers, answers)
    results = (project_root() / "figures" / "mnist_style" / "results.json").read_bytes()
    path = write_atomically(folder / "figures" / "mnist_style" / "results.json", results)
    yield path, partial(read_all_results, folder / "figures")


class Segments(torch.nn.Module):
    "A generator of segmentations from digits."

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        return (c[:, :1, None, None] > 0).float().expand(-1, 1, 28, 28)


def read_all_results(figures: Path) -> None:
    "All that commands and pages read of the results below a folder."
    for found in find_reproductions(figures):
        entries([found])
        recomputed(found.results, find_paper(found.paper))


SURE = {  # the end of a path, and what must be refused there
    "mosaics/labels.npz": npz(train=np.array(["a"] * 4)),
    "shards/a.npz": npz(data=np.zeros((2, 5), np.uint8), labels=np.zeros(3)),
    "shards/b.npz": npz(data=np.zeros((1, 3, 16, 16), np.uint8), labels=np.zeros(1, np.int64)),
    dsprites._FILE: npz(imgs=np.zeros((3, 64, 64), np.uint8)),
    "table.csv": b"file,hat\na.png," + b"1" * 200_000,
    "alone/config.json": b"[" * 100_000,
    "sent/config.json": json.dumps(RECORD | {"devices": "2"}).encode(),
    "precision.json": b'{"a": {}}',
    "a.ipynb": b'{"cells": [{"metadata": 1}]}',
    "a.pt": zipped(b"text").replace(b"a.txt", b"\xff\xff.py"),
}


def check_said(path: Path, read: Callable, by_digest: bool) -> None:
    "A reader returns, or says one sentence: which file or folder, why, and what to do."
    try:
        read()
    except UserError as e:
        said = str(e)
        assert path.name in said or str(path.parent) in said, said
        assert ";" in said and "\n" not in said and len(said) < 1000, said
    except Exception as e:
        pytest.fail(f"{path.name}: {type(e).__name__}: {e}")
    else:
        assert not by_digest, f"{path.name} was altered and read all the same"


READERS = idx_readers, colour_readers, picture_readers, run_readers, other_readers
READERS += received_readers, polymnist_readers


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.filterwarnings("ignore")
def test_no_reader_fails_without_a_sentence(kind, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(dsprites, "TOTAL", 4)
    monkeypatch.setattr(sources, "download", lambda *_: pytest.fail("a download was tried"))
    chance = random.Random(0)
    for path, read in kind(tmp_path, tiny) if kind is idx_readers else kind(tmp_path):
        whole = path.read_bytes()
        by_digest = (
            path.suffix in (".mat", ".ckpt", ".pt2")
            or "py" in path.parent.name
            or path.parent.name == "run"
        )
        if by_digest == (path.parent.name == "run"):
            read()
        for _ in range(TRIES):
            path.write_bytes(content := damaged(whole, chance))
            check_said(path, read, by_digest and content != whole and path.name != "done.json")
        for end, content in SURE.items():
            if path.as_posix().endswith(end):
                path.write_bytes(content)
                check_said(path, read, True)
        path.unlink()
        path.mkdir()
        check_said(path, read, False)
        path.rmdir()
        path.write_bytes(whole)
