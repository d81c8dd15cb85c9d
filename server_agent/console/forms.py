"""Posted forms and addresses that came back to us: small, and only of our own kind."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

Form = Mapping[str, str]

_MAX_BYTES: Final = 16 * 1024
_MAX_FIELDS: Final = 20
_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Form:
    """Return the fields of a posted form; of two with one name the last.

    Raises:
        HTTPException: 413, it is larger than any form of ours; 415 or 400, it is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise HTTPException(415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise HTTPException(413)
    try:
        text = body.decode("ascii")
        fields = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise HTTPException(400) from None
    return dict(fields)


def local_address(untrusted: str | None) -> str | None:
    """Return *untrusted* if it is a path of ours, with or without a query; otherwise None."""
    if untrusted is None or not untrusted.startswith("/") or not untrusted.isascii():
        return None
    # Browsers read a backslash as a slash, and drop tabs and line ends.
    if "\\" in untrusted or not untrusted.isprintable():
        return None
    try:
        parts = urlsplit(untrusted)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc or untrusted.startswith("//") else untrusted
