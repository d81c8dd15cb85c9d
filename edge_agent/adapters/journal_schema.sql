-- The dock's journal: what was staged, claimed, answered and freed. One writer; WAL; synchronous=FULL.
-- Times are milliseconds since 1970, UTC. Digests are hex, lower case.

CREATE TABLE docking (
    docking_id   TEXT PRIMARY KEY,
    bay          INTEGER NOT NULL,
    model        TEXT NOT NULL,            -- with serial, the device; its number at the site is in facts
    serial       TEXT NOT NULL,
    officer      TEXT,
    facts        BLOB NOT NULL,            -- protocol.manifest.RecorderFacts as JSON
    docked_at_ms INTEGER NOT NULL,
    ended_at_ms  INTEGER,
    state        TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'receipted'))
) STRICT;

-- What a docking's recorder told over its serial port, before it became a disk.
CREATE TABLE talk (
    docking_id TEXT PRIMARY KEY REFERENCES docking,
    told       BLOB NOT NULL               -- edge_agent.ingest.told.Told as JSON
) STRICT;

-- How far a recorder's clock was off, from before it is set until a docking has it.
CREATE TABLE recorder_clock (
    serial        TEXT PRIMARY KEY,        -- as told over the serial port
    recorder_time TEXT,                    -- local, without a zone; NULL if it told no time
    drift_ms      INTEGER,
    noted_at_ms   INTEGER NOT NULL
) STRICT;

-- One row per file of a recorder that was ever begun. file_id is its name in staging. A recorder is
-- its model and serial: the site may give its number to another one.
--   copying:  partial/<file_id>; the first verified_bytes are durable and hash to prefix_sha256
--   staged:   files/<file_id> is durable and read back; no manifest names it yet (held, or docking still open)
--   claimed:  a sealed manifest promises it
--   archived: its receipt was verified; the staged copy may go
--   freed:    the staged copy is gone
-- lost: of a copying file; it left the recorder before it was whole, and a manifest said so.
-- What is held beyond the prefix stands in salvaged_range.
-- generation: above 0 where another file had this path, size and time before.
-- fingerprint: of what the recorder gave, to see cheaply whether a file is still the same.
-- same_as: the content is another row's; this row never has bytes of its own in staging.
CREATE TABLE file (
    file_id        TEXT PRIMARY KEY,
    model          TEXT NOT NULL,
    serial         TEXT NOT NULL,
    docking_id     TEXT NOT NULL REFERENCES docking,
    path           BLOB NOT NULL,
    size_bytes     INTEGER NOT NULL,
    mtime_ns       INTEGER NOT NULL,
    generation     INTEGER NOT NULL DEFAULT 0,
    state          TEXT NOT NULL CHECK (state IN ('copying', 'staged', 'claimed', 'archived', 'freed')),
    verified_bytes INTEGER NOT NULL DEFAULT 0,
    prefix_sha256  TEXT,
    sha256         TEXT,
    sm3            TEXT,
    evidence       TEXT,
    fingerprint    TEXT,
    lost           INTEGER NOT NULL DEFAULT 0,
    marked         INTEGER NOT NULL DEFAULT 0,
    same_as        TEXT REFERENCES file,
    manifest_id    TEXT,
    UNIQUE (model, serial, path, size_bytes, mtime_ns, generation)
) STRICT;
CREATE INDEX file_by_digest ON file (model, serial, sha256);
CREATE INDEX file_by_manifest ON file (manifest_id);
CREATE INDEX file_by_state ON file (state);
CREATE INDEX file_by_same_as ON file (same_as) WHERE same_as IS NOT NULL;

-- Parts of copying files that were read around what could not be: salvaged/<file_id>, at the same offsets.
CREATE TABLE salvaged_range (
    file_id      TEXT NOT NULL REFERENCES file ON DELETE CASCADE,
    offset_bytes INTEGER NOT NULL,
    size_bytes   INTEGER NOT NULL,
    sha256       TEXT NOT NULL,            -- of this part alone
    PRIMARY KEY (file_id, offset_bytes)
) STRICT;
CREATE TRIGGER salvaged_range_of_whole_file AFTER UPDATE OF state ON file WHEN NEW.state <> 'copying'
BEGIN
    DELETE FROM salvaged_range WHERE file_id = NEW.file_id;
END;

-- The outbox: a manifest stays until its receipt was verified.
CREATE TABLE manifest (
    sequence        INTEGER PRIMARY KEY,
    manifest_id     TEXT NOT NULL UNIQUE,
    docking_id      TEXT NOT NULL REFERENCES docking,
    payload_sha256  TEXT NOT NULL,
    envelope        BLOB NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'admitted', 'receipted', 'refused')),
    sealed_at_ms    INTEGER NOT NULL,
    refusal_code    TEXT,
    refusal_detail  TEXT,
    receipt         BLOB,                  -- the receipt's envelope, byte for byte
    receipted_at_ms INTEGER
) STRICT;
CREATE INDEX manifest_by_state ON manifest (state);
CREATE INDEX manifest_by_docking ON manifest (docking_id);

CREATE TABLE alert (
    alert_id  TEXT PRIMARY KEY,
    payload   BLOB NOT NULL,               -- protocol.messages.Alert as JSON
    delivered INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The newest registry that the archive's key signed.
CREATE TABLE registry (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;

-- Messages that could not be read or trusted: kept, counted, shown.
CREATE TABLE unhandled_message (
    message_id     INTEGER PRIMARY KEY,
    received_at_ms INTEGER NOT NULL,
    topic          TEXT NOT NULL,
    payload        BLOB NOT NULL,
    code           TEXT NOT NULL,
    detail         TEXT NOT NULL
) STRICT;

-- Commands of the archive, each noted before it is obeyed, so that none is obeyed twice.
CREATE TABLE command (
    sequence    INTEGER PRIMARY KEY,
    command_id  TEXT NOT NULL,
    verb        TEXT NOT NULL,
    asked_by    TEXT NOT NULL,
    taken_at_ms INTEGER NOT NULL
) STRICT;

-- What was erased from recorders, each noted before edge-mount is asked to: by the policy of which registry,
-- what is gone, and what kept it from going on. No end: the agent was stopped before it was told one.
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

-- What shows that a receipt is in the archive's custody log.
CREATE TABLE receipt_proof (
    sequence  INTEGER PRIMARY KEY REFERENCES manifest,
    inclusion TEXT NOT NULL
) STRICT;

-- What this dock saw last of the archive's custody log.
CREATE TABLE watched_log (
    only              INTEGER PRIMARY KEY CHECK (only = 1),
    note              BLOB NOT NULL,       -- the checkpoint, as the archive signed it
    unproved_since_ms INTEGER,             -- since then nothing was shown to go on from there
    doubted           INTEGER NOT NULL DEFAULT 0,
    contradiction     BLOB                 -- a checkpoint that cannot be true beside it
) STRICT;

-- What a person at the dock let it forget.
CREATE TABLE forgotten_log (
    forgotten_at_ms INTEGER NOT NULL,
    note            BLOB NOT NULL,
    contradiction   BLOB
) STRICT;
