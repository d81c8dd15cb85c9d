"""Our tables of nftables in the kernel: loaded whole, and told from any other; blocking."""

import hashlib
import json
import socket
import subprocess
from typing import Any, Final

import structlog

from edge_agent.errors import GuardError
from edge_agent.guard.policy import Policy
from edge_agent.guard.ruleset import FAMILY, FRAMES, TABLE, as_nftables

_PATIENCE_S: Final = 20.0
# What differs between two loads of the same rules.
_PASSING: Final = frozenset({"handle", "packets", "bytes"})

_log = structlog.get_logger(__name__)


class NftTable:
    """The tables of one policy.

    Attributes:
        refuses_frames: Whether frames of packet sockets are refused, too: a kernel before 5.16
            cannot.
        refused: How many packets and frames were refused, as of the last look at the tables.
    """

    def __init__(self, policy: Policy) -> None:
        """Load nothing yet."""
        self.refuses_frames = True
        self.refused = 0
        self._counters = 0
        self._policy = policy
        self._loaded: str | None = None
        self._frames_of: tuple[str, ...] = ()

    def load(self) -> str:
        """Put the tables in place of whatever stood under their name; return their digest.

        Raises:
            GuardError: The kernel did not take them.
        """
        self._frames_of = self._interfaces()
        try:
            _nft("-f", "-", stdin=as_nftables(self._policy, frames_of=self._frames_of))
            self.refuses_frames = True
        except GuardError as error:
            # What keeps programs off the internet must not depend on what keeps frames.
            _nft("-f", "-", stdin=as_nftables(self._policy, frames_of=None))
            if self.refuses_frames:
                _log.warning("frames of packet sockets are not refused", reason=str(error))
            self.refuses_frames = False
        self._counters = 0
        self._loaded = self.digest()
        if self._loaded is None:
            raise GuardError("the table is not there after it was loaded")
        return self._loaded

    def follow(self) -> str | None:
        """Load anew if interfaces of the station came or went; return the digest if it was.

        Raises:
            GuardError: As of `load`.
        """
        return None if self._interfaces() == self._frames_of else self.load()

    def is_ours(self) -> bool:
        """Return whether the kernel has exactly what was loaded."""
        return self._loaded is not None and self.digest() == self._loaded

    def digest(self) -> str | None:
        """Return the SHA-256 in hex of the rules that the kernel has; None if there are none.

        Raises:
            GuardError: `nft` cannot be asked.
        """
        host, frames = _rules_of(FAMILY), _rules_of(FRAMES)
        self._count(_packets(host) + _packets(frames))
        if host is None:
            return None
        text = json.dumps([_lasting(host), _lasting(frames)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _count(self, packets: int) -> None:
        # Who sets the counters back takes nothing away from what was seen.
        is_set_back = packets < self._counters
        self.refused += packets if is_set_back else packets - self._counters
        self._counters = packets

    def _interfaces(self) -> tuple[str, ...]:
        there = {name for _, name in socket.if_nameindex()}
        return tuple(name for name in self._policy.interfaces if name in there)

    def refused_packets(self) -> dict[str, int]:
        """Return how many packets each chain refused since it was loaded.

        Raises:
            GuardError: There is no such table.
        """
        listed = json.loads(_nft("-j", "list", "counters", "table", FAMILY, TABLE))
        counters = (one["counter"] for one in listed["nftables"] if "counter" in one)
        return {str(one["name"]): int(one["packets"]) for one in counters}


def _rules_of(family: str) -> Any:
    """Return the rules that our table of a family has; None if there is none."""
    try:
        listed = json.loads(_nft("-j", "list", "table", family, TABLE))
    except _NoTableError:
        return None
    except ValueError as error:
        raise GuardError(f"nft: {error}") from error
    return [one for one in listed["nftables"] if "metainfo" not in one]


def _packets(rules: Any) -> int:
    counters = (one["counter"] for one in rules or () if "counter" in one)
    return sum(int(one["packets"]) for one in counters)


class _NoTableError(GuardError):
    """There is no table of ours."""


def _nft(*arguments: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - Debian's own tool; the rules are on its stdin
            ("/usr/sbin/nft", *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuardError(f"nft: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip()[:500]
        raise (_NoTableError if "No such file" in said else GuardError)(f"nft: {said}")
    return done.stdout


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(inner) for name, inner in value.items() if name not in _PASSING}
    if isinstance(value, list):
        return [_lasting(inner) for inner in value]
    return value
