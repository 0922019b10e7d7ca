"""What `make outputs` keeps of an executed notebook."""

import importlib.util
import json

from places import ROOT

from genpapers.base.paper import available_papers, pages_beside

spec = importlib.util.spec_from_file_location("outputs", ROOT / "scripts" / "outputs.py")
outputs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(outputs)


def cell(name: str, source: str, *shown: dict) -> dict:
    return {
        "cell_type": "code",
        "id": name,
        "source": source,
        "outputs": list(shown),
        "execution_count": None,
        "metadata": {},
    }


WORDS = {"image/png": {"alt": "a line"}}
PICTURE = {
    "output_type": "display_data",
    "data": {"image/png": "AAAA"},
    "metadata": WORDS | {"width": 3},
}
RESULT = {
    "output_type": "execute_result",
    "data": {"text/plain": "2"},
    "metadata": {},
    "execution_count": 7,
}
NOISE = [
    {"output_type": "stream", "name": "stderr", "text": "/a/folder"},
    {"output_type": "display_data", "data": {outputs.WIDGET: {}}, "metadata": {}},
]


def test_outputs_of_the_same_cells_are_kept_without_noise():
    old = {"output_type": "stream", "name": "stdout", "text": "old"}
    notebook = {
        "cells": [cell("a", "draw()", old), cell("b", "changed()", old), cell("c", "new()", old)]
    }
    executed = {
        "cells": [
            cell("injected", "scale = 1", RESULT),
            cell("a", "draw()", PICTURE, *NOISE, RESULT),
            cell("b", "before()", RESULT),
        ]
    }
    a, b, c = (found["outputs"] for found in outputs.with_outputs(notebook, executed)["cells"])
    assert a == [PICTURE | {"metadata": WORDS}, RESULT | {"execution_count": None}] and b == c == [
        old
    ]


def test_every_notebook_that_reproduce_runs_is_written_once_and_stays_as_it_is(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(outputs, "ROOT", tmp_path)
    pages = available_papers() + pages_beside()
    for folder, ending, shown in (("nbs", "", ()), ("runs/notebooks", "-quick", (RESULT,))):
        (tmp_path / folder).mkdir(parents=True)
        for page in pages:
            (tmp_path / folder / f"{page.name}{ending}.ipynb").write_text(
                json.dumps({"cells": [cell("a", "1 + 1", *shown)]})
            )
    outputs.main()
    first = {page.name: (tmp_path / page.notebook).read_bytes() for page in pages}
    assert (
        all(json.loads(text)["cells"][0]["outputs"] for text in first.values())
        and len(capsys.readouterr().out.splitlines()) == len(pages)
    )
    outputs.main()
    assert first == {page.name: (tmp_path / page.notebook).read_bytes() for page in pages}
