"""The server itself: it opens the run in a process of its own, listens, and says where."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

import uvicorn

from ...api.errors import StageError
from ...screen import say
from .app import make_app
from .desk import Work
from .guard import Guard, is_loopback
from .worker import Worker


def serve(work: Work, host: str, port: int, root: Path | None, names: Iterable[str], style: str) -> None:
    """Answer until Ctrl-C.

    host   an address of this machine; whoever calls has asked whether it may be another than loopback
    port   0 for any that is free
    root   the folder of which paths are taken; None: paths are refused
    names  by which others know this machine

    Raises StageError if the run cannot be opened, or the address is taken or none of this machine's.
    """
    listening = bound(host, port)
    with listening:
        worker = Worker(work)
        try:
            app = Guard(
                make_app(worker, work.limits, root, style),
                frozenset(name.lower() for name in names),
                not is_loopback(host),
                work.limits.bytes,
            )
            say(f"mmcl serve: {worker.about['name']} answers at {address(listening)} (Ctrl-C ends it)")
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended in good order and passes it on
                uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run([listening])
        finally:
            worker.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address. Raises StageError if it is taken, or none of this machine's."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        one = socket.socket(family, kind, proto)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(where)
            one.listen()
        except OSError:
            one.close()
            raise
    except OSError as error:
        raise StageError(
            f"{host}, port {port}: cannot be listened at ({error.strerror or error}); give another --port"
        ) from error
    return one


def address(listening: socket.socket) -> str:
    """Where a browser reaches a socket."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
