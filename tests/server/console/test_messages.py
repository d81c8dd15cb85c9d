"""Every sentence is in both languages, and the .po files are those of the sources.

After a change of sentences, in server_agent/console:

    pybabel extract -F locale/babel.cfg -k N_ --no-location --sort-output -o console.pot .
    pybabel update -D console -i console.pot -d locale --no-fuzzy-matching --omit-header
"""

import io
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from protocol.findings import FindingCode
from protocol.manifest import ClipKind, DateBasis, EvidenceLevel, Isolation
from protocol.messages import BayState
from server_agent.access.roles import Role
from server_agent.console import wording
from server_agent.console.speech import Language, load_translations

FOLDER = Path(wording.__file__).parent
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}
PLACEHOLDER = re.compile(r"%(?:\([a-z]+\))?[a-z%]")
HAN = re.compile(r"[\u4e00-\u9fff]")
# Rows of docs/errors.md that can stand at a bay or in an alert.
SHOWN = re.compile(
    r"^\| (E-(?:ADM|APP|ARC|ATT|BAY|ING|LGT|MNT|OUT|STG|TUS)-[0-9]{3}) \|", re.MULTILINE
)

Message = str | tuple[str, ...]


def extracted() -> set[Message]:
    with (FOLDER / "locale/babel.cfg").open() as settings:
        mapping, options = parse_mapping_cfg(settings)  # type: ignore[no-untyped-call]  # Babel's gap
    return {
        message if isinstance(message, str) else tuple(message)
        for _, _, message, _, _ in extract_from_dir(FOLDER, mapping, options, keywords=KEYWORDS)
    }


def catalog(language: Language) -> Catalog:
    path = FOLDER / "locale" / language.value / "LC_MESSAGES/console.po"
    return read_po(io.BytesIO(path.read_bytes()), locale=language.value, abort_invalid=True)


def forms(text: str | list[str] | tuple[str, ...] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or ())


@pytest.mark.parametrize("language", Language)
def test_the_catalogue_has_what_the_sources_say(language: Language) -> None:
    """A .po file has the sources' sentences: none is missing, none is left over."""
    kept = {message.id for message in catalog(language) if message.id}

    assert kept == extracted()
    assert not catalog(language).obsolete


@pytest.mark.parametrize("language", Language)
def test_every_sentence_is_translated(language: Language) -> None:
    """No sentence is empty or only guessed, and each keeps its placeholders."""
    for message in catalog(language):
        if not message.id:
            continue
        assert not message.fuzzy, message.id
        wanted = {frozenset(PLACEHOLDER.findall(form)) for form in forms(message.id)}
        for form in forms(message.string):
            assert form.strip(), message.id
            assert frozenset(PLACEHOLDER.findall(form)) in wanted, message.id


def test_chinese_is_chinese() -> None:
    """A Chinese sentence has Chinese characters: none was only copied."""
    copied = [
        message.id
        for message in catalog(Language.CHINESE)
        if message.id and not all(HAN.search(form) for form in forms(message.string))
    ]

    assert not copied


def test_english_is_what_the_sources_say() -> None:
    """The English sentences are the message ids themselves."""
    assert all(
        forms(message.string) == forms(message.id)
        for message in catalog(Language.ENGLISH)
        if message.id
    )


def test_every_value_has_its_word() -> None:
    """Whatever the protocol can say, the console has a word for."""
    assert set(wording.STATES) == {state.value for state in BayState} | {wording.UNKNOWN}
    assert set(wording.ISOLATION) == set(Isolation)
    assert set(wording.ROLES) == set(Role)
    assert set(wording.DATE_BASES) == set(DateBasis)
    assert set(wording.KINDS) == {kind.value for kind in ClipKind}
    assert set(wording.EVIDENCE) == {level.value for level in EvidenceLevel}
    assert {code.value for code in FindingCode} <= set(wording.PROBLEMS)


def test_every_code_that_shows_has_its_sentence() -> None:
    """A code that a dock can report is said in the reader's language: see wording.py."""
    page = (FOLDER.parents[1] / "docs/errors.md").read_text(encoding="utf-8")

    missing = sorted(set(SHOWN.findall(page)) - set(wording.PROBLEMS))

    assert not missing, "give each a sentence in wording.py and in both .po files"


@pytest.mark.parametrize("language", Language)
def test_states_differ_in_words(language: Language) -> None:
    """No two states of a bay read alike."""
    translated = load_translations(language).ugettext
    words = [translated(word) for word in wording.STATES.values()]

    assert len(set(words)) == len(words)
