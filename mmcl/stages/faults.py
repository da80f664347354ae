"""What a plug-in raises within a stage, named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..api.errors import MmclError, PluginError
from ..plugins import fault_of
from ..recipe.plan import Plan


@contextmanager
def faults_named(plan: Plan) -> Iterator[None]:
    """Within it, what a stranger's plug-in raises is a PluginError that names it."""
    try:
        yield
    except PluginError as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        if not notes:
            raise
        raise PluginError(f"{error}; {notes}") from error
    except (MmclError, MemoryError):
        raise
    except Exception as error:
        fault = fault_of(error, plan.parts)
        if fault is None:
            raise
        raise fault from error
