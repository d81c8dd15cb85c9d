"""Whatever order of commits, seals, stops and starts: the log is what was committed, once."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.custody_site import CustodySite, open_custody_site

_STEPS = ("open", "write", "fsync", "fdatasync", "unlink", "mkdir")


class Stopped(BaseException):
    """The program is gone."""


@contextlib.contextmanager
def _stopped_after(lets_through: int) -> Any:
    """Stop whoever changes the disk after so many steps."""
    left = iter(range(lets_through))

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if next(left, None) is None:
                raise Stopped
            return call(*arguments, **named)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in _STEPS:
            patch.setattr(os, name, guarded(getattr(os, name)))
        with contextlib.suppress(Stopped):
            yield


commits = st.tuples(st.just("commit"), st.integers(1, 300))
seals = st.tuples(st.just("seal"), st.just(0))
stops = st.tuples(st.just("stop"), st.integers(0, 40))


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(commits | seals | stops, max_size=8))
def test_the_log_is_what_was_committed(steps: list[tuple[str, int]]) -> None:
    """At each moment its checkpoint is good, and none that was signed is ever taken back."""

    async def play(site: CustodySite) -> None:
        log, number, signed = site.log(), 0, 0
        for what, count in steps:
            if what == "commit":
                await site.commit(*(b"%d" % one for one in range(number, number + count)))
                number += count
            elif what == "seal":
                await log.seal()
            else:
                with _stopped_after(count):
                    await log.seal()
                log = site.log()
            checkpoint = site.checkpoint()
            size = 0 if checkpoint is None else checkpoint.size
            assert signed <= size <= number
            assert what != "seal" or size == number
            assert site.faults() == []
            signed = size
        await log.seal()
        assert site.logged() == await site.committed() == [b"%d" % one for one in range(number)]

    async def run(root: Path) -> None:
        async with open_custody_site(root) as site:
            await play(site)

    with tempfile.TemporaryDirectory() as root:
        asyncio.run(run(Path(root)))
