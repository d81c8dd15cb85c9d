-- The console's own database: who may log in, who is logged in, who watched what.
-- Times are milliseconds since 1970, UTC.

CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    officer TEXT,
    password TEXT NOT NULL,            -- argon2id, with its parameters and salt
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS sessions (
    token_sha256 TEXT PRIMARY KEY,     -- never the token
    name TEXT NOT NULL REFERENCES users (name),
    opened_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS attempts (
    name_sha256 TEXT PRIMARY KEY,      -- never the name: people type their password there
    failures INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT;

-- One row for each time that somebody started to play something. Nothing is ever deleted here.
CREATE TABLE IF NOT EXISTS viewings (
    number INTEGER PRIMARY KEY,
    viewing_id TEXT NOT NULL UNIQUE,
    token_sha256 TEXT NOT NULL,        -- the session that may play it
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    address TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    recording_id TEXT NOT NULL,
    recorder TEXT NOT NULL,
    officer TEXT,
    file_id INTEGER NOT NULL,
    original_name TEXT NOT NULL,
    sha256 TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS viewings_are_not_deleted BEFORE DELETE ON viewings
BEGIN SELECT RAISE(ABORT, 'a viewing is never deleted'); END;
CREATE TRIGGER IF NOT EXISTS viewings_are_not_changed BEFORE UPDATE ON viewings
BEGIN SELECT RAISE(ABORT, 'a viewing is never changed'); END;
