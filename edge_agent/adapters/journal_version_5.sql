-- From version 4 to 5: what was erased from recorders, each noted before edge-mount is asked to.

CREATE TABLE erasure (
    erasure_id       INTEGER PRIMARY KEY,
    docking_id       TEXT NOT NULL REFERENCES docking,
    registry_version INTEGER NOT NULL,
    asked_at_ms      INTEGER NOT NULL,
    ended_at_ms      INTEGER,
    files            INTEGER,
    size_bytes       INTEGER,
    code             TEXT,
    detail           TEXT
) STRICT;
