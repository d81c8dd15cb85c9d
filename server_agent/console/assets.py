"""The browser's files, held in memory: a request names one of them, never a path."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from server_agent.console.errors import BrowserFilesError

_TYPES: Final = MappingProxyType(
    {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
)
_NEEDED: Final = ("console.css", "console.js", "icons.svg", "mark.svg")
# One file, so that they run in one go: htmx looks at the page in the first free moment after its
# script, and an extension in a script of its own may not be there yet.
_JOINED: Final = "vendor/htmx.js"
_PARTS: Final = ("vendor/htmx.min.js", "vendor/hx-sse.min.js")
_DIGEST_DIGITS: Final = 12
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file: its bytes, its type, and a digest that changes its address when it changes."""

    body: bytes
    type: str
    digest: str


class Assets:
    """All files that a browser may fetch without logging in."""

    def __init__(self, files: Mapping[str, Asset]) -> None:
        self._files = files

    def address(self, name: str) -> str:
        """Return where a page finds *name*; the address is another when the content is."""
        return f"/static/{name}?v={self._files[name].digest}"

    async def answer(self, request: Request) -> Response:
        """Answer ``GET /static/{name}``."""
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            return Response(status_code=404)
        current = request.query_params.get("v") == asset.digest
        headers = {"Cache-Control": _FOR_EVER if current else "no-cache"}
        return Response(asset.body, media_type=asset.type, headers=headers)


def load_assets() -> Assets:
    """Read the files that came with the program.

    Raises:
        BrowserFilesError: One is missing: `scripts/console-assets` was not run.
    """
    files: dict[str, Asset] = {}
    _collect(resources.files(__package__).joinpath("static"), "", files)
    missing = [name for name in (*_NEEDED, *_PARTS) if name not in files]
    if missing:
        raise BrowserFilesError(f"missing: {', '.join(missing)}; run scripts/console-assets")
    files[_JOINED] = _asset(b"\n;".join(files.pop(part).body for part in _PARTS), ".js")
    return Assets(MappingProxyType(files))


def _collect(folder: Traversable, prefix: str, files: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        suffix = f".{entry.name.rpartition('.')[2]}"
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", files)
        elif suffix in _TYPES:
            files[prefix + entry.name] = _asset(entry.read_bytes(), suffix)


def _asset(body: bytes, suffix: str) -> Asset:
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST_DIGITS]
    return Asset(body=body, type=_TYPES[suffix], digest=digest)
