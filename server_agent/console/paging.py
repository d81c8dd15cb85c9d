"""Pages of a long list."""

from dataclasses import dataclass
from typing import Final

_MOST_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Where in a list a page is; `kept` is the query that all its pages share."""

    number: int
    total: int
    rows: int
    kept: str = ""

    @property
    def last(self) -> int:
        """The number of the last page, >= 1."""
        return max(1, -(-self.total // self.rows))

    @property
    def newer(self) -> str | None:
        """The query of the page before, if there is one."""
        return self._query(min(self.number - 1, self.last)) if self.number > 1 else None

    @property
    def older(self) -> str | None:
        """The query of the page after, if there is one."""
        return self._query(self.number + 1) if self.number < self.last else None

    def _query(self, number: int) -> str:
        return f"?{self.kept}&page={number}" if self.kept else f"?page={number}"


def page_number(untrusted: str | None) -> int:
    """Return the page that was asked for; what is no number asks for the first."""
    if untrusted is None or not untrusted.isascii() or not untrusted.isdigit():
        return 1
    return max(1, int(untrusted[:_MOST_DIGITS]))
