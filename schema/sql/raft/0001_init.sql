-- The log of the consensus and what belongs to it. `checksum` covers position, format and body of a row.
CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    format   INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    body     BLOB NOT NULL
) STRICT;
-- `owner`, `formed`, `vote`, `committed`, `purged`.
CREATE TABLE meta (
    name     TEXT PRIMARY KEY,
    checksum BLOB NOT NULL,
    body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
