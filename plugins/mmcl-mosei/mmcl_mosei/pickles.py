"""Pickles of arrays and plain values, read without running what a pickle may hold: it is a program."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from mmcl.api import DataError

ALLOWED = {
    *((module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray") for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("builtins", "bytes"),
    ("__builtin__", "bytes"),
    ("builtins", "bytearray"),
}


class NotAllowedError(pickle.UnpicklingError):
    """A pickle asks for something that is neither an array nor a plain value."""


class Restricted(pickle.Unpickler):
    """Allows numpy arrays and plain values."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names in ALLOWED. Raises NotAllowedError for any other."""
        if (module, name) not in ALLOWED:
            raise NotAllowedError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """What a pickle of numpy arrays and plain values holds. Raises DataError for any other, naming what it asks for."""
    try:
        with path.open("rb") as file:
            return Restricted(file, encoding="latin1").load()
    except FileNotFoundError:
        raise DataError(f"{path}: is not there; a pickled dictionary was expected") from None
    except NotAllowedError as error:
        raise DataError(
            f"{path}: is refused, since {error}; only arrays and plain values are read, for a pickle can run anything"
        ) from error
    except (EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, EOFError) or "truncated" in str(error):
            raise DataError(f"{path}: is cut short; copy it again") from error
        raise DataError(f"{path}: is no pickle ({error}); copy it again") from error
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a pickle ({type(error).__name__}); copy it again") from error
