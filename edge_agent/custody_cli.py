"""`edge-agent custody`: what this dock saw of the archive's custody log."""

import argparse
import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from typing import Final

from edge_agent.adapters.instance_lock import hold_lock
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.log_memory import LogMemory
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.config import EdgeConfig
from edge_agent.outbox.watching import Memory
from protocol.identifiers import parse_dock
from protocol.manifest import LogState

EXAMPLES: Final = """\
examples:
  edge-agent custody                    the checkpoint that this dock saw last, as it was signed
  edge-agent custody --begin-anew       after the archive was restored from an older copy: forget it
It ends with 3 if the archive's log is not what this dock saw. Stop edge-agent first:
  systemctl stop edge-agent; edge-agent custody; systemctl start edge-agent
docs/custody-log.md: what a checkpoint is, and what to do.
"""
_GOOD: Final = 0
_NOT_SOUND: Final = 3
_WORDS: Final = {
    LogState.CONSISTENT: "everything since was shown to go on from here",
    LogState.DOUBTED: "what came since was not shown to go on from here: no receipt counts",
    LogState.CONTRADICTED: "the archive signed another history: no receipt counts any more",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* read what it takes."""
    parser.add_argument(
        "--begin-anew",
        action="store_true",
        help="forget what was seen, believe what the archive shows next, and raise an alert",
    )


def show(config: EdgeConfig, options: argparse.Namespace) -> int:
    """Print what was seen, and forget it if that is asked for; return the exit status."""
    with hold_lock(config.storage.journal):
        return asyncio.run(_show(config, begin_anew=options.begin_anew))


async def _show(config: EdgeConfig, *, begin_anew: bool) -> int:
    def clock() -> datetime:
        return datetime.now(UTC)

    dock = parse_dock(config.dock)
    async with contextlib.AsyncExitStack() as stack:
        journal = await stack.enter_async_context(Journal.open(config.storage.journal))
        notices = NoticeStore(journal, dock=dock, clock=clock)
        log = LogMemory(journal, notices, dock=dock, clock=clock)
        await log.load()
        if log.memory is None:
            print("this dock has seen nothing of the archive's custody log yet")
            return _GOOD
        _tell(log.memory)
        if begin_anew:
            await log.begin_anew()
            print("forgotten: what the archive shows next is believed")
            return _GOOD
        return _GOOD if log.is_sound else _NOT_SOUND


def _tell(memory: Memory) -> None:
    mark = "✓" if memory.state is LogState.CONSISTENT else "✗"
    print(f"{mark} {memory.checkpoint.size} entries seen; {_WORDS[memory.state]}\n")
    sys.stdout.write(memory.note.decode())
    if memory.contradiction is not None:
        print("\nand beside it the archive signed:\n")
        sys.stdout.write(memory.contradiction.decode())
