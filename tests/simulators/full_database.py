"""What SQLite really says when it has no room."""

import sqlite3


def full_database() -> sqlite3.Error:
    """Return what SQLite says when it has no room."""
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE one (content BLOB)")
    try:
        database.execute("INSERT INTO one VALUES (zeroblob(100000))")
    except sqlite3.OperationalError as error:
        return error
    finally:
        database.close()
    raise AssertionError("a database of two pages took a hundred thousand bytes")
