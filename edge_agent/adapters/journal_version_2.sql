-- From version 1 to 2: what was read of files around the parts that could not be.
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
