"""The process that answers, as the server sees it: asked one question at a time, ended where it takes too long, and begun again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

from ...api.errors import StageError
from ...screen import say
from ...workers import worker_pool
from .desk import Question, Reply, Work, answer, begin, open_desk


class Worker:
    """A process with an opened run. Raises StageError, with what the process says of it, if the run cannot be opened."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stack = ExitStack()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.about = self._start()

    def _start(self) -> dict[str, Any]:
        """Begin a process; what its run reads and answers."""
        self._pool: ProcessPoolExecutor = self._stack.enter_context(worker_pool(1, begin))
        self._process = self._pool.submit(os.getpid).result()
        try:
            reply = self._pool.submit(open_desk, self._work).result()
        except BrokenProcessPool as error:
            raise StageError(f"{self._work.run}: the process that opens it ended; is there memory enough?") from error
        if reply.status != 200:
            raise StageError(reply.body["error"])
        return reply.body

    @property
    def busy(self) -> bool:
        """Whether a question is being answered."""
        return self._turn.locked()

    async def ask(self, question: Question) -> Reply:
        """The reply to a question, when its turn has come."""
        limits = self._work.limits
        if self._waiting > limits.waiting:
            return Reply(503, {"error": f"{limits.waiting} questions are waiting already; ask again in a while"})
        self._waiting += 1
        try:
            async with self._turn:
                return await self._asked(question)
        finally:
            self._waiting -= 1

    async def _asked(self, question: Question) -> Reply:
        limits = self._work.limits
        try:
            future: Future[Reply] = self._pool.submit(answer, question)
            return await asyncio.wait_for(asyncio.wrap_future(future), limits.time)
        except TimeoutError:
            await self._again()
            return Reply(
                504, {"error": f"{question.names[0].name}: took longer than {limits.time:g} s; send a shorter part of it"}
            )
        except BrokenProcessPool:
            await self._again()
            return Reply(
                422,
                {"error": f"{question.names[0].name}: ended the process that read it; it is damaged, or takes too much memory"},
            )

    async def _again(self) -> None:
        """End the process and begin another one."""
        say("mmcl serve: the process that answers is begun again")
        await asyncio.to_thread(self._restart)

    def _restart(self) -> None:
        self._end()
        self._start()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._stack.close()

    def close(self) -> None:
        """End the process."""
        self._end()
