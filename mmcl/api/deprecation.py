"""What still works and will go: said one release ahead, in one sentence that names what to write in its place.

A name of a public module stands in that module's `deprecated_names`, a field of a spec in its class's DEPRECATED, a hook in
`@hookspec(warn_on_impl=Deprecation(sentence, Deprecated(…)))`, an option of a plug-in or a key of a recipe in DEPRECATED of its Params or its section.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Deprecated:
    """Since when it is said that something goes, with what it goes, and what to write in its place.

    since    the version that first says so: "contract 1.3" of what plug-ins call or offer, "mmcl 0.2" of a recipe's key, and of a plug-in's
             own option that of its package, such as "acme 1.1"
    gone     the version that is without it
    instead  what to do, as a clause: "write `bands`"
    """

    since: str
    gone: str
    instead: str

    def sentence(self, what: str) -> str:
        """What its user is told of `what`."""
        return f"{what} is deprecated since {self.since} and goes with {self.gone}: {self.instead}"


class Deprecation(DeprecationWarning):
    """The warning of something that goes: its sentence and the `Deprecated`. pytest shows it to whoever uses it, Python to the author of a script."""

    def __str__(self) -> str:
        return str(self.args[0])


def deprecated_names(module: str, names: Mapping[str, tuple[str, Deprecated]]) -> Callable[[str], Any]:
    """A `__getattr__` for a public module: its deprecated names (→ the module that defines each), with a warning where one is used."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        where, deprecated = names[name]
        warnings.warn(Deprecation(deprecated.sentence(f"{module}.{name}"), deprecated), stacklevel=2)
        return getattr(importlib.import_module(where), name)

    return __getattr__


def deprecated_fields(spec: Any) -> dict[str, Deprecated]:
    """The deprecated fields of a spec that say something: that are not as they are left out."""
    known: Mapping[str, Deprecated] = getattr(type(spec), "DEPRECATED", {})
    fields = getattr(spec, "__dataclass_fields__", {})
    return {name: one for name, one in known.items() if getattr(spec, name) != fields[name].default}
