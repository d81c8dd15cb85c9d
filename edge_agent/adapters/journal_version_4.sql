-- From version 3 to 4: commands of the archive, each noted before it is obeyed, so that none is obeyed twice.

CREATE TABLE command (
    sequence    INTEGER PRIMARY KEY,
    command_id  TEXT NOT NULL,
    verb        TEXT NOT NULL,
    asked_by    TEXT NOT NULL,
    taken_at_ms INTEGER NOT NULL
) STRICT;
