-- From version 5 to 6: what this dock saw of the archive's custody log.

-- What shows that a receipt is in the archive's custody log.
CREATE TABLE receipt_proof (
    sequence  INTEGER PRIMARY KEY REFERENCES manifest,
    inclusion TEXT NOT NULL
) STRICT;

CREATE TABLE watched_log (
    only              INTEGER PRIMARY KEY CHECK (only = 1),
    note              BLOB NOT NULL,
    unproved_since_ms INTEGER,
    doubted           INTEGER NOT NULL DEFAULT 0,
    contradiction     BLOB
) STRICT;

-- What a person at the dock let it forget.
CREATE TABLE forgotten_log (
    forgotten_at_ms INTEGER NOT NULL,
    note            BLOB NOT NULL,
    contradiction   BLOB
) STRICT;
