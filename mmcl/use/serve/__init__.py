"""`mmcl serve`: a finished run that answers over HTTP, and a page that asks it.

desk     what is done for a question, in a process of its own
worker   that process, as the server sees it
limits   what is taken; guard: from whom; uploads: as what files
app      addresses and statuses; static/: the page
server   listens
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from ...api.errors import StageError
from .desk import Work
from .guard import is_loopback
from .limits import Limits

__all__ = ["Limits", "Work", "is_loopback", "start"]

NEEDED = {"fastapi": "FastAPI", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
"""Modules of the extra `serve`."""


def start(work: Work, host: str, port: int, root: Path | None, names: Iterable[str], style: str) -> None:
    """Serve until Ctrl-C, as `server.serve` does. Raises StageError too where the extra is not installed."""
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise StageError(f"mmcl serve needs {', '.join(missing)}: pip install 'mmcl[serve]'")
    from .server import serve

    serve(work, host, port, root, names, style)
