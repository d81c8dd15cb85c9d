"""Alerts that the archive raises itself, and the faults that it outlives."""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from runtime.errors import RuntimeFault
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import keep_alerts
from server_agent.errors import ServerError
from server_agent.signing import Signer

_QUIET_S: Final = 3600.0
_FACT_CHARACTERS: Final = 128
_DISK_FAILED: Final = "E-ARC-105"
_CATALOGUE_FAILED: Final = "E-ARC-112"
_ROW_UNUSABLE: Final = "E-ARC-113"

_log = structlog.get_logger(__name__)


class Alarms:
    """Keeps what a person must see; the same thing again within an hour is one alert."""

    def __init__(self, store: CatalogueStore, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._raised_s: dict[tuple[str, ...], float] = {}

    async def sound(
        self,
        code: str,
        text: str,
        facts: Mapping[str, str],
        *,
        once_per: Sequence[str] | None = None,
    ) -> None:
        """Keep an alert.

        Does not fail: whoever raises an alarm has a failure to deal with already, and what cannot
        be kept is in the log.

        Args:
            code: An E- or F-code.
            text: One sentence in English.
            facts: Short values that the sentence is about.
            once_per: What makes two alerts of a code the same; None for all of their facts.
        """
        short = {name: value[:_FACT_CHARACTERS] for name, value in facts.items()}
        _log.error("alarm", code=code, text=text, **short)
        same = [f"{name}={value}" for name, value in sorted(short.items())]
        what = (code, *(same if once_per is None else once_per))
        now_s = time.monotonic()
        self._raised_s = {
            key: at_s for key, at_s in self._raised_s.items() if now_s - at_s < _QUIET_S
        }
        if what in self._raised_s:
            return
        self._raised_s[what] = now_s
        try:
            async with self._store.writing() as connection:
                await keep_alerts(connection, [self._signer.alert(code, text, short)])
        except (SQLAlchemyError, OSError):
            self._raised_s.pop(what, None)
            _log.exception("an alert could not be kept", code=code)

    @contextlib.asynccontextmanager
    async def outliving(self, work: str, **facts: str) -> AsyncIterator[None]:
        """Do one unit of the archive's own work; a fault of disk or catalogue ends only that.

        The unit is left as it is, for the next sweep; the fault is logged, and is an alert at most
        once an hour for its kind. Anything else that is raised is our bug, and goes through.

        Args:
            work: What is being done, in some words.
            facts: Which one.
        """
        try:
            yield
        except (SQLAlchemyError, OSError, ServerError, RuntimeFault, ValueError) as error:
            _log.exception("one unit of work failed", work=work, **facts)
            code, kind = _describe(error)
            await self.sound(
                code,
                "The archive could not finish one of its own steps; it goes on with the others.",
                {"work": work, **facts, "error": kind},
                once_per=(work, kind),
            )


def _describe(error: Exception) -> tuple[str, str]:
    """Return the code of a fault and what kind it is, without what differs each time."""
    if isinstance(error, ServerError | RuntimeFault):
        return error.code, type(error).__name__
    if isinstance(error, SQLAlchemyError):
        cause = getattr(error, "orig", None)
        return _CATALOGUE_FAILED, f"{type(error).__name__}: {cause or ''}"
    if isinstance(error, OSError):
        return _DISK_FAILED, error.strerror or type(error).__name__
    return _ROW_UNUSABLE, type(error).__name__
