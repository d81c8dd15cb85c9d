"""The reader's language: sentences from the .po files themselves, numbers and times in one form.

The .po files are read when the program starts: there is no compiled form that could be stale.
"""

from datetime import UTC, date, datetime
from enum import Enum, unique
from importlib import resources
from io import BytesIO
from typing import Final
from zoneinfo import ZoneInfo

from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from babel.support import Translations

from server_agent.console.errors import MessagesFileError
from server_agent.console.wording import N_

DOMAIN: Final = "console"

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1000
_MINUTE_S: Final = 60
_LONGEST_S: Final = 99 * 3600


@unique
class Language(Enum):
    """What the console speaks; the value is the folder's and the cookie's word."""

    CHINESE = "zh_CN"
    ENGLISH = "en"

    @property
    def tag(self) -> str:
        """The BCP 47 tag, for HTML."""
        return self.value.replace("_", "-")


NAMES: Final = {Language.CHINESE: "中文", Language.ENGLISH: "English"}


def load_translations(language: Language) -> Translations:
    """Read one language's sentences.

    Raises:
        MessagesFileError: The file in the program's own folder is malformed.
    """
    path = f"locale/{language.value}/LC_MESSAGES/{DOMAIN}.po"
    content = resources.files(__package__).joinpath(path).read_bytes()
    compiled = BytesIO()
    try:
        catalog = read_po(BytesIO(content), locale=language.value, abort_invalid=True)
    except PoFileError as error:
        raise MessagesFileError(f"{path}: {error}") from None
    write_mo(compiled, catalog)
    compiled.seek(0)
    return Translations(compiled, domain=DOMAIN)


class Speech:
    """One language at one site; its methods are what templates call."""

    def __init__(self, language: Language, zone: ZoneInfo) -> None:
        self.language = language
        self.translations = load_translations(language)
        self._zone = zone

    def clock(self, at: datetime) -> str:
        """Return a moment as the site's time of day, ``18:29:05``."""
        return f"{at.astimezone(self._zone):%H:%M:%S}"

    def moment(self, at: datetime) -> str:
        """Return a moment at the site, ``2026-11-23 18:29:05``."""
        return f"{at.astimezone(self._zone):%Y-%m-%d %H:%M:%S}"

    def recorder_time(self, at: datetime) -> str:
        """Return a time as a recorder's clock showed it."""
        return f"{at:%Y-%m-%d %H:%M:%S}"

    def day(self, on: date) -> str:
        """Return a date, ``2026-11-23``."""
        return on.isoformat()

    def today(self, now_utc: datetime) -> date:
        """Return the date at the site."""
        return now_utc.astimezone(self._zone).date()

    def utc_iso(self, at: datetime) -> str:
        """Return a moment for machines."""
        return at.astimezone(UTC).isoformat(timespec="seconds")

    def duration(self, seconds: int) -> str:
        """Return a length of time in at most two units."""
        translated = self.translations.ugettext
        if seconds >= _LONGEST_S:
            return translated(N_("more than 99 h"))
        minutes, rest_s = divmod(seconds, _MINUTE_S)
        hours, rest_minutes = divmod(minutes, _MINUTE_S)
        if hours:
            text = translated(N_("%(hours)d h %(minutes)d min"))
            return text % {"hours": hours, "minutes": rest_minutes}
        if minutes:
            text = translated(N_("%(minutes)d min %(seconds)d s"))
            return text % {"minutes": minutes, "seconds": rest_s}
        return translated(N_("%(seconds)d s")) % {"seconds": rest_s}


def size(size_bytes: int) -> str:
    """Return a size with a decimal unit, three or four digits: ``1.23 GB``."""
    unit = 0
    scaled = size_bytes
    while scaled >= _STEP and unit < len(_UNITS) - 1:
        scaled //= _STEP
        unit += 1
    if unit == 0:
        return f"{size_bytes} B"
    value = size_bytes / _STEP**unit
    decimals = 2 if scaled < 10 else 1 if scaled < 100 else 0  # noqa: PLR2004 (three digits in all)
    return f"{value:.{decimals}f} {_UNITS[unit]}"


def shown(untrusted: str, *, limit: int = 200) -> str:
    """Return a device's text so that it can be read and cannot disturb what stands around it.

    Characters that do not show, or that turn the direction of writing, become their escapes.
    """
    visible = "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in untrusted[: limit + 1]
    )
    return visible if len(visible) <= limit else f"{visible[:limit]}…"
