"""Recordings that cannot be read while streams are prepared: damaged files, or a plug-in at fault."""

from __future__ import annotations

from collections import Counter

from ..api.errors import PluginError
from ..data.reading import Unread
from ..screen import say


class Faults:
    """Tells a plug-in that fails with recording after recording from files that are damaged one by one.

    what  what is prepared
    who   the plug-ins that read it
    """

    ENOUGH = 3
    """Recordings that fail in the same way before the plug-in is named."""
    PATIENCE = 5
    """So many of the first recordings, and no other, failing at the plug-in's own fault or by taking too long end the work."""

    def __init__(self, what: str, who: str) -> None:
        self._what, self._who = what, who
        self._alike: Counter[str] = Counter()
        self._errors: list[PluginError] = []

    @property
    def first(self) -> str | None:
        """The first failure at a plug-in's own fault."""
        return str(self._errors[0]) if self._errors else None

    def add(self, one: Unread, usable: int) -> None:
        """One more recording has failed, while so many are `usable`. Raises PluginError if the first ones all failed, as all will."""
        if one.alike:
            self._alike[one.alike] += 1
        if one.error is not None:
            self._errors.append(one.error)
        if not usable and len(self._errors) >= self.PATIENCE:
            raise self._errors[0]

    def close(self, usable: int) -> None:
        """Say what failed alike. Raises PluginError if nothing is usable, and that is a plug-in's own fault."""
        if not usable and self._errors:
            raise self._errors[0]
        for how, count in self._alike.items():
            if count >= self.ENOUGH:
                say(
                    f"prepare {self._what}: {count} recordings failed in the same way ({how}), so that the fault may lie with "
                    f"{self._who} rather than with each file"
                )
