"""docs/errors.md and the code name the same codes."""

import ast
import re
from collections import Counter
from typing import Final

from tests.architecture.source_tree import PRODUCT, ROOT, sources

CODE: Final = re.compile(r"[EF]-[A-Z]{2,5}-[0-9]{3}")
ROW: Final = re.compile(rf"^\|\s*`?({CODE.pattern})`?\s*\|", re.MULTILINE)
ERRORS_PAGE: Final = ROOT / "docs/errors.md"


def codes_in(tree: ast.Module) -> set[str]:
    """Every string that is a code, whole: a code inside a sentence or docstring does not count."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CODE.fullmatch(node.value)
    }


def defined_by_class(tree: ast.Module) -> list[str]:
    """The codes that exception classes give themselves: ``code = "E-..."``."""
    return [
        statement.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        and CODE.fullmatch(statement.value.value)
    ]


def codes_in_product() -> set[str]:
    trees = [source.tree for source in sources() if source.path.parts[0] in PRODUCT]
    return set[str]().union(*map(codes_in, trees))


def documented_codes() -> list[str]:
    return ROW.findall(ERRORS_PAGE.read_text(encoding="utf-8"))


def test_every_code_is_documented() -> None:
    """Each E-code and F-code in the product has a row in docs/errors.md."""
    assert not sorted(codes_in_product() - set(documented_codes()))


def test_every_row_has_code() -> None:
    """docs/errors.md promises no code that the product does not use."""
    assert not sorted(set(documented_codes()) - codes_in_product())


def test_every_code_has_one_row() -> None:
    """A code is explained once."""
    assert not [code for code, rows in Counter(documented_codes()).items() if rows > 1]


def test_every_code_means_one_thing() -> None:
    """No two classes or findings share a code."""
    trees = [source.tree for source in sources() if source.path.parts[0] in PRODUCT]
    owners = Counter(code for tree in trees for code in defined_by_class(tree))

    assert not [code for code, classes in owners.items() if classes > 1]


def test_codes_are_found_in_code_and_page() -> None:
    """A class variable, an enum value and a table row count; prose does not."""
    tree = ast.parse('"""About E-BAY-101."""\nclass A:\n    code = "E-BAY-102"\nX = {"F-INV-001"}')

    assert codes_in(tree) == {"E-BAY-102", "F-INV-001"}
    assert defined_by_class(tree) == ["E-BAY-102"]
    assert ROW.findall("| `E-BAY-101` | x |\n| F-INV-001 | y |\nE-BAY-103") == [
        "E-BAY-101",
        "F-INV-001",
    ]
