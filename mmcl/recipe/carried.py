"""A plan on its way to a process beside this one: what plug-ins offer goes by name, and is the other process's own.

Both ends are processes of one program and of one user; nothing of this is ever written to a file or read from one.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, cast

from ..plugins import REGISTRIES, plugins
from .plan import Plan


def packed(plan: Plan) -> bytes:
    """A plan, for `unpacked`."""
    file = io.BytesIO()
    _Packer(file).dump(plan)
    return file.getvalue()


def unpacked(sent: bytes) -> Plan:
    """The plan that was `packed` in another process of this program."""
    return cast(Plan, _Unpacker(io.BytesIO(sent)).load())


class _Packer(pickle.Pickler):
    """Names what plug-ins offer, in place of copying it: it holds functions, which only its own module can give."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        offers = [(what, name, offer.spec) for what in REGISTRIES for name, offer in plugins().all(what)]
        self._names = {id(spec): (what, name) for what, name, spec in offers}

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """The sort and the name of an offer; None for anything else."""
        return self._names.get(id(obj))


class _Unpacker(pickle.Unpickler):
    """Looks offers up by their names."""

    def persistent_load(self, pid: Any) -> Any:
        """The offer of that sort and name."""
        what, name = pid
        return plugins().get(what, name).spec
