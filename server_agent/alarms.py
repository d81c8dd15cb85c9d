"""Alerts that the archive raises itself."""

import time
from collections.abc import Mapping
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import keep_alerts
from server_agent.signing import Signer

_QUIET_S: Final = 3600.0
_FACT_CHARACTERS: Final = 128

_log = structlog.get_logger(__name__)


class Alarms:
    """Keeps what a person must see; the same thing again within an hour is one alert."""

    def __init__(self, store: CatalogueStore, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._raised_s: dict[tuple[str, ...], float] = {}

    async def sound(self, code: str, text: str, facts: Mapping[str, str]) -> None:
        """Keep an alert.

        Does not fail: whoever raises an alarm has a failure to deal with already, and what cannot
        be kept is in the log.

        Args:
            code: An E- or F-code.
            text: One sentence in English.
            facts: Short values that the sentence is about.
        """
        short = {name: value[:_FACT_CHARACTERS] for name, value in facts.items()}
        _log.error("alarm", code=code, text=text, **short)
        what = (code, *(f"{name}={value}" for name, value in sorted(short.items())))
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
            del self._raised_s[what]
            _log.exception("an alert could not be kept", code=code)
