"""The process that mounts, and obeys the test on a Unix socket.

Started as ``/usr/bin/python3 -m tests.simulators.faultfs.server MOUNT_POINT SOCKET``. It ends, and
unmounts, when its standard input ends: a test run that is killed leaves no mount behind.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pyfuse3
import trio

from tests.simulators.faultfs.requests import FaultFs
from tests.simulators.faultfs.rules import Rule


class Control:
    """Answers the test: a line of JSON for a line of JSON."""

    def __init__(self, system: FaultFs) -> None:
        self._system = system
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "reset": lambda _: system.reset(),
            "crash": lambda message: system.crash(message["seed"]),
            "restart": lambda _: self._restart(),
            "rule": self._rule,
            "clear rules": lambda _: self._clear_rules(),
            "counts": lambda _: [[rule.met, rule.hits] for rule in system.disk.rules],
            "disk": self._set_disk,
            "trace": lambda _: [traced.message() for traced in system.disk.trace],
            "clear trace": lambda _: system.disk.trace.clear(),
            "release": lambda _: system.release_stalled(),
            "state": lambda _: {"down": system.is_down, "stalled": system.stalled},
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection until it ends."""
        rest = bytearray()
        async for received in stream:
            rest += received
            while (end := rest.find(b"\n")) >= 0:
                message = json.loads(rest[:end])
                del rest[: end + 1]
                answer = self._commands[message["do"]](message)
                await stream.send_all(json.dumps(answer).encode() + b"\n")

    def _restart(self) -> None:
        self._system.is_down = False
        self._system.disk.rules.clear()

    def _rule(self, message: dict[str, Any]) -> int:
        self._system.disk.rules.append(Rule.parse(message["rule"]))
        return len(self._system.disk.rules) - 1

    def _clear_rules(self) -> None:
        self._system.release_stalled()
        self._system.disk.rules.clear()

    def _set_disk(self, message: dict[str, Any]) -> None:
        for name, value in message["settings"].items():
            setattr(self._system.disk, name, value)


async def _until_input_ends(done: Callable[[], None]) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as lifeline:
        while await lifeline.receive_some(1):
            pass
    done()


async def _serve(socket_path: str) -> None:
    system = FaultFs()
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listening.bind(socket_path)
    listening.listen()
    pyfuse3.init(system, sys.argv[1], {*pyfuse3.default_options, "fsname=faultfs"})
    try:
        async with trio.open_nursery() as nursery:
            serve = Control(system).serve
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            nursery.start_soon(_until_input_ends, nursery.cancel_scope.cancel)
            sys.stdout.write("mounted\n")
            sys.stdout.flush()
            await pyfuse3.main()
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    trio.run(_serve, sys.argv[2])
