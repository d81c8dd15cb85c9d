"""Sizes, names and packages."""

import ast
from pathlib import Path
from typing import Final

from tests.architecture.source_tree import PACKAGES, ROOT, sources, tracked_files

MAX_MODULE_LINES: Final = 500
MAX_FUNCTION_LINES: Final = 60
# A module named so says nothing about what is in it.
FORBIDDEN_NAMES: Final = frozenset({"manager", "helper", "utils", "common", "base"})


def long_functions(tree: ast.Module, limit_lines: int) -> list[str]:
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1})"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > limit_lines
    ]


def says_nothing(name: str) -> bool:
    words = name.strip("_").split("_")
    return any({word, word.removesuffix("s"), f"{word}s"} & FORBIDDEN_NAMES for word in words)


def test_modules_are_short() -> None:
    """No module is longer than 500 lines."""
    lines = {str(source.path): source.text.count("\n") for source in sources()}

    assert not {path: count for path, count in lines.items() if count > MAX_MODULE_LINES}


def test_functions_are_short() -> None:
    """No function is longer than 60 lines, its docstring included."""
    found = {
        str(source.path): long_functions(source.tree, MAX_FUNCTION_LINES) for source in sources()
    }

    assert not {path: functions for path, functions in found.items() if functions}


def test_a_long_function_is_found() -> None:
    """A method counts like a function, and one line too many is enough."""
    tree = ast.parse("class C:\n    async def f(self):\n        x = 1\n        return x\n")

    assert not long_functions(tree, 3)
    assert long_functions(tree, 2) == ["f (3)"]


def test_module_names_say_what_is_inside() -> None:
    """No module or package is a manager, a helper, utils, common or base."""
    assert not [
        str(source.path)
        for source in sources()
        if any(says_nothing(part) for part in source.module.split("."))
    ]


def test_an_empty_name_is_found() -> None:
    """Singular, plural and compound names are all refused; a word that contains one is not."""
    assert all(map(says_nothing, ("utils", "util", "_helpers", "bay_manager", "common")))
    assert not any(map(says_nothing, ("database", "basement", "community", "__init__")))


def test_every_package_folder_is_a_package() -> None:
    """Each folder with Python in it has an __init__.py, up to its package's root."""
    folders: set[Path] = set()
    for path in tracked_files():
        if path.suffix == ".py" and path.parts[0] in PACKAGES:
            folders.update(path.parents[:-1])

    assert folders
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()]
