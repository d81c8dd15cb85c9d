"""A thread for the blocking calls of one docking: one after another, never two at once."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

from edge_agent.errors import CopyStoppedError

T = TypeVar("T")


class OneThread:
    """The thread, and the ways between it and the event loop that it was made in."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False)

    async def run(self, call: Callable[[], T]) -> T:
        """Run *call* in the thread, and return what it returns.

        When cancelled, this waits until the call has let go of what it holds.
        """
        future = self._loop.run_in_executor(self._executor, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._stopping.set()
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({future})
            if not future.cancelled():
                future.exception()  # seen here: nobody else will ask for it
            raise

    def stop_if_asked(self) -> None:
        """In the thread: raise CopyStoppedError once the docking was cancelled."""
        if self._stopping.is_set():
            raise CopyStoppedError("the agent is stopping")

    def tell(self, call: Callable[[], None]) -> None:
        """In the thread: let *call* happen in the event loop, soon."""
        self._loop.call_soon_threadsafe(call)

    def post(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """In any thread: let the event loop begin *coroutine*, after all that was posted before."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the thread: wait for what the event loop does."""
        return self.post(coroutine).result()
