"Nested states, compared leaf by leaf."

from collections.abc import Iterator

import torch


def leaves(state, path: str = "") -> Iterator[tuple[str, object]]:
    "Path and value of every leaf of nested dictionaries, lists and tuples."
    if isinstance(state, dict | list | tuple) and state:
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, state


def same(a, b) -> bool:
    "Whether two states are equal, tensors bit for bit."
    return differing(a, b) == []


def differing(a, b) -> list[str]:
    "The paths of the leaves that only one of two states has, or that differ."
    a, b = dict(leaves(a)), dict(leaves(b))
    return [path for path in a | b if not (path in a and path in b and equal(a[path], b[path]))]


def equal(a, b) -> bool:
    "Whether two leaves are equal."
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def assert_same(a, b) -> None:
    "Two states with tensors in them are equal bit for bit; the error names the leaves that differ."
    assert any(isinstance(value, torch.Tensor) for _, value in leaves(a)), "no tensor in the state"
    assert not differing(a, b), f"{', '.join(differing(a, b))} differ"
