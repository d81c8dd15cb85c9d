"""Templates in the reader's language."""

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

import jinja2

from server_agent.access.roles import Permission, may
from server_agent.console import wording
from server_agent.console.assets import Assets
from server_agent.console.speech import NAMES, Language, Speech, shown, size

_SHORT_DIGEST: Final = 12


class Pages:
    """Renders what `templates/` describes; values are escaped unless a template made them."""

    def __init__(self, assets: Assets, zone: ZoneInfo) -> None:
        self.speech: Mapping[Language, Speech] = {
            language: Speech(language, zone) for language in Language
        }
        self._environments = {
            language: _environment(self.speech[language], assets) for language in Language
        }

    def render(self, template: str, language: Language, **values: Any) -> str:
        """Return *template* filled in.

        Raises:
            jinja2.TemplateError: The template asks for a value that is not there: our bug.
        """
        return self._environments[language].get_template(template).render(values)


def _environment(speech: Speech, assets: Assets) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # the extension adds it
        speech.translations.ugettext, speech.translations.ungettext, newstyle=True
    )
    environment.filters.update(
        {
            "clock": speech.clock,
            "day": speech.day,
            "digest": lambda digest: digest[:_SHORT_DIGEST],
            "duration": speech.duration,
            "moment": speech.moment,
            "recorder_time": speech.recorder_time,
            "shown": shown,
            "size": size,
            "utc_iso": speech.utc_iso,
        }
    )
    environment.globals.update(
        {
            "Permission": Permission,
            "asset": assets.address,
            "language": speech.language,
            "languages": NAMES,
            "may": may,
            "wording": wording,
        }
    )
    return environment
