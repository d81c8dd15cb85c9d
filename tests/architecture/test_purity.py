"""The core takes values and gives values: it opens nothing and asks nobody.

The import contract of the same name follows imports through other modules. This
looks at the core's own text, for what an import does not show.
"""

import ast
from typing import Final

import pytest

from tests.architecture.source_tree import PRODUCT, Source, import_contract, sources

CONTRACT: Final = "the core touches no file, socket, clock, log, thread or database"
DRIVERS: Final = "drivers talk over what they are given"
FORBIDDEN_CALLS: Final = frozenset(
    {"open", "print", "input", "breakpoint", "exec", "eval", "compile", "__import__"}
)
# Methods that read the clock or chance; on any receiver, since a type is not visible here.
FORBIDDEN_METHODS: Final = frozenset({"now", "utcnow", "today", "uuid1", "uuid4", "uuid7"})
FORBIDDEN_FROM: Final = {
    "pathlib": frozenset({"Path", "PosixPath", "WindowsPath"}),
    "io": frozenset({"open", "open_code", "FileIO"}),
    "uuid": frozenset({"uuid1", "uuid4", "uuid7", "getnode"}),
    "urllib": frozenset({"request"}),
    "importlib": frozenset({"import_module", "resources"}),
}


def impurities(tree: ast.Module, forbidden_modules: frozenset[str]) -> list[str]:
    """What a module does that a function of its arguments cannot."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if _root(name.name) in forbidden_modules]
                found += [name.name for name in names if _is_forbidden_part(name.name)]
            case ast.ImportFrom(module=str(module), names=names):
                found += [module] if _root(module) in forbidden_modules else []
                found += [module] if _is_forbidden_part(module) else []
                found += [
                    f"{module}.{name.name}"
                    for name in names
                    if name.name in FORBIDDEN_FROM.get(module, ())
                ]
            case ast.Attribute(value=ast.Name(id=module), attr=attribute):
                if attribute in FORBIDDEN_FROM.get(module, ()) or attribute in FORBIDDEN_METHODS:
                    found.append(f"{module}.{attribute}")
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                found.append(f"{name}()")
    return found


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_forbidden_part(module: str) -> bool:
    package, _, part = module.partition(".")
    return part in FORBIDDEN_FROM.get(package, ())


def forbidden_modules(contract: str = CONTRACT) -> frozenset[str]:
    return frozenset(import_contract(contract)["forbidden_modules"])


def core(contract: str = CONTRACT) -> list[Source]:
    packages = import_contract(contract)["source_modules"]
    return [
        source
        for source in sources()
        if any(
            source.module == package or source.module.startswith(f"{package}.")
            for package in packages
        )
    ]


def test_the_core_is_pure() -> None:
    """No core module opens a file, reads the clock, draws chance, logs, waits or connects."""
    found = {str(source.path): impurities(source.tree, forbidden_modules()) for source in core()}

    assert found
    assert not {path: what for path, what in found.items() if what}


def test_drivers_are_pure() -> None:
    """A driver reaches its port, its clock and its sleep by its arguments alone."""
    forbidden = forbidden_modules(DRIVERS)
    found = {str(source.path): impurities(source.tree, forbidden) for source in core(DRIVERS)}

    assert found
    assert not {path: what for path, what in found.items() if what}


def test_the_core_is_where_the_contract_says() -> None:
    """Every package that the contract calls core exists."""
    named = set(import_contract(CONTRACT)["source_modules"])

    assert named <= {source.module for source in core()}
    assert {name.partition(".")[0] for name in named} < set(PRODUCT)


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import os.path",
        "from os import fsync",
        "def f():\n    import time",
        "from asyncio import sleep",
        "import logging.handlers",
        "from pathlib import Path",
        "import pathlib\npathlib.Path('x')",
        "open('x')",
        "print('x')",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import date\nclock = date.today",
        "from uuid import uuid4",
        "import uuid\nuuid.uuid4()",
        "import urllib.request",
        "from urllib.request import urlopen",
        "import io\nio.open('x')",
    ],
)
def test_an_impurity_is_found(text: str) -> None:
    """Each way to reach the world is seen, wherever in the module it stands."""
    assert impurities(ast.parse(text), forbidden_modules())


@pytest.mark.parametrize(
    "text",
    [
        "from pathlib import PurePosixPath",
        "from datetime import UTC, datetime\ndatetime(2026, 1, 1, tzinfo=UTC)",
        "from uuid import UUID",
        "import hashlib, re, io\nio.BytesIO()",
        "from urllib.parse import quote",
        "def f(now_utc):\n    return now_utc",
    ],
)
def test_pure_code_passes(text: str) -> None:
    """Paths as text, times as values and codecs are what the core is made of."""
    assert not impurities(ast.parse(text), forbidden_modules())
