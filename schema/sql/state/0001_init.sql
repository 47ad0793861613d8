-- The replicated state: one row for each object, its body as JSON. The hash of the state is made from these rows.
CREATE TABLE object (
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
-- `format`, `applied`, `membership`, `hash`: written in the transaction of the rows that they describe.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
