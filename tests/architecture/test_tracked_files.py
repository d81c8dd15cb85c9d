"""What no tracked file may contain."""

import io
import re
import tokenize
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.source_tree import ROOT, sources, tracked_files, tracked_texts

MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(?:work|farm)/")
REGISTRY_HOST: Final = re.compile(
    r"files\.pythonhosted|\bpypi\.(?:org|python)|registry\.(?:npmjs|yarnpkg)|\bdeb\.debian\.org"
)
SUPPRESSION: Final = re.compile(
    r"#\s*noqa:\s*(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)(?P<noqa_reason>.*)"
    r"|#\s*type:\s*ignore\[[a-z, -]+\](?P<ignore_reason>.*)"
)
BARE_SUPPRESSION: Final = re.compile(r"#\s*(?:noqa(?!:)|noqa:\s*$|type:\s*ignore(?!\[))")
MIN_REASON_LETTERS: Final = 4


def unreasoned(comment: str) -> bool:
    """Whether a comment switches a check off without naming the check and a reason."""
    if BARE_SUPPRESSION.search(comment):
        return True
    found = SUPPRESSION.search(comment)
    if found is None:
        return False
    reason = found["noqa_reason"] or found["ignore_reason"] or ""
    return sum(map(str.isalpha, reason)) < MIN_REASON_LETTERS


def comments(text: str) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize("forbidden", [MACHINE_PATH, REGISTRY_HOST], ids=["path", "host"])
def test_no_machine_and_no_registry_is_named(forbidden: re.Pattern[str]) -> None:
    """The repository works anywhere: it names no path of one machine and no package registry."""
    assert not [str(path) for path, text in tracked_texts() if forbidden.search(text)]


def test_a_machine_and_a_registry_are_found() -> None:
    """The patterns find what they are for, and leave words alone that only look like it."""
    assert MACHINE_PATH.search("see " + "/work" + "/main")
    assert not MACHINE_PATH.search("frame/work/x and ../work/")
    assert REGISTRY_HOST.search("https://" + "pypi" + ".org/simple")
    assert not REGISTRY_HOST.search("a pypi package")


def test_every_switched_off_check_has_a_reason() -> None:
    """Each noqa and each type-ignore names its code and says why."""
    assert not [
        f"{source.path}:{line}: {comment}"
        for source in sources()
        for line, comment in comments(source.text)
        if unreasoned(comment)
    ]


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# noqa", True),
        ("# noqa: S603", True),
        ("# noqa: S603, S607", True),
        ("# noqa: S603 - our own program", False),
        ("# type: ignore", True),
        ("# type: ignore[arg-type]", True),
        ("# type: ignore[arg-type]  # the stub is wrong", False),
        ("# nothing to switch off", False),
    ],
)
def test_a_missing_reason_is_found(comment: str, found: bool) -> None:  # noqa: FBT001 - a table's column
    """A code alone is no reason."""
    assert unreasoned(comment) is found


def test_secrets_are_not_tracked() -> None:
    """No private key is in the repository, whatever its name."""
    marker = "-----BEGIN " + "PRIVATE KEY-----"

    assert not [path for path in tracked_files() if path.suffix == ".key"]
    assert not [str(path) for path, text in tracked_texts() if marker in text]


def test_scripts_can_be_run() -> None:
    """A file that names its interpreter is executable."""
    assert not [
        str(path)
        for path, text in tracked_texts()
        if text.startswith("#!") and not _is_executable(ROOT / path)
    ]


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)
