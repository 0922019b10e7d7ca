__version__ = "0.1.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .companion.face import claims as claims, figures as figures
    from .companion.face import papers as papers, parameters as parameters
    from .companion.finished import load as load, train as train

_FACE = {name: "companion.face" for name in ("papers", "parameters", "claims", "figures")}
_FACE |= {name: "companion.finished" for name in ("train", "load")}
_ROOMS = ("train", "claims")  # sub-packages, too; called, they are the functions of their names


def __getattr__(name: str):
    "The functions that are the package's face, loaded when they are asked for."
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _FACE:
        return getattr(import_module(f"{__name__}.{_FACE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
