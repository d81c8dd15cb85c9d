"""One way of logging for a whole process, libraries included."""

import logging
import sys
from collections import deque
from json import dumps
from typing import Any, Final

import structlog
from structlog.typing import Processor

# About as many lines as an answer to `collect-logs` holds, ten times over.
_RECENT: Final[deque[str]] = deque(maxlen=500)
_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure(*, json: bool, level: str) -> None:
    """Send what this process logs to standard error, whether by structlog or by logging.

    Nothing logs before this is called, and nothing else in this package touches global state. It
    replaces what an earlier call set up.

    Args:
        json: One JSON object a line, for journald; otherwise lines for a person.
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.

    Raises:
        ValueError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no such log level: {level!r}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED, processors=_rendering(json=json)
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    remembering = _Remembering()
    remembering.setFormatter(handler.formatter)
    root.addHandler(handler)
    root.addHandler(remembering)
    root.setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def recent_lines() -> str:
    """Return the last lines that this process logged, as they were; nothing before `configure`."""
    return "\n".join(_RECENT)


class _Remembering(logging.Handler):
    """Keeps what another handler writes, for who asks later."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line; what cannot be written is the other handler's to complain about."""
        try:
            _RECENT.append(self.format(record))
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)


def _rendering(*, json: bool) -> list[Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if not json:
        colours = sys.stderr.isatty()
        return [strip, structlog.dev.ConsoleRenderer(colors=colours)]
    return [
        strip,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_one_line),
    ]


def _one_line(event: object, **options: Any) -> str:
    """Write Chinese as it is, and the bytes of a file name that is no text as JSON's escapes."""
    text = dumps(event, ensure_ascii=False, **options)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
