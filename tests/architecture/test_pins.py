"""What is installed is pinned by digest, and every relaxed rule says why."""

import json
import re
from typing import Final

import pytest

from tests.architecture.source_tree import ROOT

REQUIREMENTS: Final = ("demo.txt", "dev.txt", "peers.txt")
PIN: Final = re.compile(r"[a-z0-9._-]+(?:\[[a-z0-9,._-]+\])?==[^\s;]+")
DIGEST: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}")
HOST: Final = re.compile(r"https?:|--(?:extra-)?index-url|--find-links|--trusted-host|\bfile:| @ ")
RULE: Final = re.compile(r'"[A-Z]{1,6}[0-9]{3,4}"')
FRONTEND: Final = ROOT / "server_agent/console/frontend"


def unpinned(requirements: str) -> list[str]:
    """The requirements that name no exact version or no digest."""
    logical_lines = requirements.replace("\\\n", " ").splitlines()
    return [
        line
        for line in logical_lines
        if line.strip()
        and not line.startswith("#")
        and not (PIN.match(line) and DIGEST.search(line))
    ]


def unreasoned_rules(pyproject: str) -> list[str]:
    """The lines of ruff's tables that switch a rule off and do not say why."""
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)
    return [
        line.strip()
        for table in tables
        if table.startswith(("[tool.ruff.lint]", "[tool.ruff.lint.per-file-ignores]"))
        for line in table.splitlines()
        if RULE.search(line) and not re.search(r'#\s*\w[^"]+$', line)
    ]


def read_requirements(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_are_pinned(name: str) -> None:
    """Every requirement has one version and at least one digest."""
    text = read_requirements(name)

    assert PIN.search(text)
    assert not unpinned(text)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_name_no_host(name: str) -> None:
    """Where packages come from is the machine's business."""
    assert not HOST.search(read_requirements(name))


def test_developers_have_what_the_demo_has() -> None:
    """dev.txt holds all of demo.txt at the same versions: one environment serves both."""
    demo, dev = (set(PIN.findall(read_requirements(name))) for name in ("demo.txt", "dev.txt"))

    assert demo < dev


def test_an_open_requirement_is_found() -> None:
    """A range, a missing digest and a bare name are all refused."""
    digest = f"--hash=sha256:{'0' * 64}"

    assert not unpinned(f"a==1 \\\n    {digest}\n")
    assert len(unpinned(f"a>=1 {digest}\nb==1\nc\n")) == len("abc")


def test_browser_files_are_pinned() -> None:
    """Each npm package has one version and a digest; the lock names no host."""
    text = (FRONTEND / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)["packages"]
    wanted = json.loads((FRONTEND / "package.json").read_text(encoding="utf-8"))["dependencies"]

    assert not HOST.search(text)
    assert all(package["integrity"].startswith("sha512-") for name, package in lock.items() if name)
    assert wanted == {name: lock[f"node_modules/{name}"]["version"] for name in wanted}


def test_every_relaxed_rule_has_a_reason() -> None:
    """Each rule that ruff leaves out is followed by why."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert RULE.search(text)
    assert not unreasoned_rules(text)


def test_a_relaxed_rule_without_reason_is_found() -> None:
    """A rule alone on its line, or followed by an empty comment, is refused."""
    table = '[tool.ruff.lint]\nignore = [\n    "D100", # because\n    "D104", #\n    "D105",\n]\n'

    assert unreasoned_rules(table) == ['"D104", #', '"D105",']
