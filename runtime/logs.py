"""One way of logging for a whole process, libraries included."""

import logging
import sys
from json import dumps
from typing import Any, Final

import structlog
from structlog.typing import Processor

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
    root.addHandler(handler)
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
