"""Data sets as 8-bit tensors in memory: `load(name, split, root)`."""

from genpapers.data.sources import DataError, Images, load

__all__ = ["DataError", "Images", "load"]
