-- From version 2 to 3: what recorders told over their serial ports; and who leans on a copy is found at once.

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
CREATE INDEX file_by_same_as ON file (same_as) WHERE same_as IS NOT NULL;
