import asyncio
import threading

import pytest

from edge_agent.errors import CopyStoppedError
from edge_agent.one_thread import OneThread


async def test_calls_run_one_after_another_in_one_thread() -> None:
    """All calls run in the same thread, which is not the event loop's."""
    async with OneThread("bay-1") as thread:
        names = await asyncio.gather(
            *(thread.run(lambda: threading.current_thread().name) for _ in range(5))
        )

    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name


async def test_an_error_comes_out() -> None:
    """What a call raises is raised to who asked for it."""
    async with OneThread("bay-1") as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0)


async def test_a_call_is_waited_for_when_cancelled() -> None:
    """Cancelled, run returns only after the call has seen that and let go."""
    let_go = threading.Event()
    began = asyncio.Event()
    async with OneThread("bay-1") as thread:

        def work() -> None:
            thread.tell(began.set)
            try:
                while True:
                    thread.stop_if_asked()
            except CopyStoppedError:
                let_go.set()
                raise

        running = asyncio.create_task(thread.run(work))
        await asyncio.wait_for(began.wait(), timeout=60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert let_go.is_set()


async def test_the_thread_can_wait_for_the_loop() -> None:
    """What the event loop does for the thread comes back to it, errors too."""

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return 2 * number

    async with OneThread("bay-1") as thread:
        assert await thread.run(lambda: thread.wait_for(double(21))) == 42
        with pytest.raises(ValueError, match="-1"):
            await thread.run(lambda: thread.wait_for(double(-1)))
