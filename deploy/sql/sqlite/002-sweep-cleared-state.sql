-- Cleared state leaves an empty row, whose version keeps a late writer out. Knowing when that was, a later removal can sweep it.
ALTER TABLE grain_state ADD COLUMN modified INTEGER NOT NULL DEFAULT 0; -- seconds since 1970
CREATE INDEX grain_state_cleared ON grain_state (modified) WHERE payload IS NULL;
