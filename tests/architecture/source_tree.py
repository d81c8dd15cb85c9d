"""The files of this repository, as the architecture tests look at them."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PRODUCT: Final = ("protocol", "runtime", "edge_agent", "server_agent")
PACKAGES: Final = (*PRODUCT, "recorder_simulator", "tests", "demo", "bench", "scripts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file: where it is, its text, and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name; a package is named without ``__init__``."""
        parts = list(self.path.with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that is in git or would be added to it, relative to the root."""
    listed = subprocess.run(
        [
            *("git", "-c", f"safe.directory={ROOT}"),
            *("ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted({Path(name) for name in listed.stdout.split("\0") if name})
    return tuple(name for name in names if (ROOT / name).is_file())


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Every tracked file that is UTF-8 text."""
    for path in tracked_files():
        try:
            yield path, (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of our packages; a script counts by its first line."""
    return tuple(
        Source(path=path, text=text, tree=ast.parse(text, str(path)))
        for path, text in tracked_texts()
        if path.parts[0] in PACKAGES and _is_python(path, text)
    )


def _is_python(path: Path, text: str) -> bool:
    return path.suffix == ".py" or (
        text.startswith("#!") and "python" in text.split("\n", maxsplit=1)[0]
    )


@cache
def import_contract(name: str) -> dict[str, list[str]]:
    """The lists of one import contract, so that a rule is written down once."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [
        {key: value for key, value in contract.items() if isinstance(value, list)}
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["name"] == name
    ]
    return contract
