"""What our own disk, or the journal on it, says in an error: full, failing, or nothing of it."""

import errno
import socket
import sqlite3
import ssl
from typing import Final

# The dock's disk is so full that the journal cannot be written.
DISK_FULL: Final = "E-STG-305"

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# SQLite says the second one where there is no room for its wal-index.
_SQLITE_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})

# Of what the journal says, these are our bugs: the disk and the database did their work.
_OUR_BUGS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
_NETWORK: Final = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)


def disk_failure(error: BaseException) -> OSError | sqlite3.Error | None:
    """Return what our own disk or journal said, if that is in *error*; a network is no disk."""
    if isinstance(error, (*_NETWORK, *_OUR_BUGS)):
        return None
    if isinstance(error, OSError | sqlite3.Error):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = (disk_failure(inner) for inner in error.exceptions)
        return next((one for one in found if one is not None), None)
    return None


def is_full(error: BaseException | None) -> bool:
    """Return whether our own disk said in *error* that there is no room."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_full, error.exceptions))
    if isinstance(error, sqlite3.Error):
        return _sqlite_code(error) in _SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _sqlite_code(error: sqlite3.Error) -> int:
    """Return the result code; 0, which is none of an error, if Python did not note it."""
    return getattr(error, "sqlite_errorcode", 0)
