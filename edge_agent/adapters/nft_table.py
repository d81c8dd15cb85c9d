"""Our table of nftables in the kernel: loaded whole, and told from any other; blocking."""

import hashlib
import json
import subprocess
from typing import Any, Final

from edge_agent.errors import GuardError
from edge_agent.guard.policy import Policy
from edge_agent.guard.ruleset import FAMILY, TABLE, as_nftables

_PATIENCE_S: Final = 20.0
# What differs between two loads of the same rules.
_PASSING: Final = frozenset({"handle", "packets", "bytes"})


class NftTable:
    """The table of one policy."""

    def __init__(self, policy: Policy) -> None:
        """Load nothing yet."""
        self._text = as_nftables(policy)
        self._loaded: str | None = None

    def load(self) -> str:
        """Put the table in place of whatever stood under its name; return its digest.

        Raises:
            GuardError: The kernel did not take it.
        """
        _nft("-f", "-", stdin=self._text)
        self._loaded = self.digest()
        if self._loaded is None:
            raise GuardError("the table is not there after it was loaded")
        return self._loaded

    def is_ours(self) -> bool:
        """Return whether the kernel has exactly what was loaded."""
        return self._loaded is not None and self.digest() == self._loaded

    def digest(self) -> str | None:
        """Return the SHA-256 in hex of the rules that the kernel has; None if there is no table.

        Raises:
            GuardError: `nft` cannot be asked.
        """
        try:
            listed = json.loads(_nft("-j", "list", "table", FAMILY, TABLE))
        except _NoTableError:
            return None
        except ValueError as error:
            raise GuardError(f"nft: {error}") from error
        rules = [one for one in listed["nftables"] if "metainfo" not in one]
        text = json.dumps(_lasting(rules), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def refused_packets(self) -> dict[str, int]:
        """Return how many packets each chain refused since it was loaded.

        Raises:
            GuardError: There is no such table.
        """
        listed = json.loads(_nft("-j", "list", "counters", "table", FAMILY, TABLE))
        counters = (one["counter"] for one in listed["nftables"] if "counter" in one)
        return {str(one["name"]): int(one["packets"]) for one in counters}


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
