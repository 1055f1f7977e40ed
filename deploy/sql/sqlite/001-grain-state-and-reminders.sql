-- One row a grain and state. The version is the ETag.
CREATE TABLE IF NOT EXISTS grain_state (
    service  TEXT NOT NULL,
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    grain    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    payload  BLOB,
    PRIMARY KEY (service, provider, name, grain)
) WITHOUT ROWID;

-- start and period are .NET ticks (100 ns, UTC); hash is the grain's place on the ring, 0 to 2^32 - 1.
CREATE TABLE IF NOT EXISTS reminder (
    service  TEXT NOT NULL,
    grain    TEXT NOT NULL,
    name     TEXT NOT NULL,
    hash     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    period   INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    PRIMARY KEY (service, grain, name)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS reminder_by_hash ON reminder (service, hash);
