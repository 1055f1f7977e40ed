-- One row a grain and state. The version is the ETag; the primary key is why two silos that both believe a grain is new cannot both create it.
CREATE TABLE grain_state (
    service     text NOT NULL,
    provider    text NOT NULL,
    name        text NOT NULL,
    grain       text NOT NULL,
    version     bigint NOT NULL,
    payload     bytea,
    modified_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, provider, name, grain)
);

-- Cleared state leaves an empty row, whose version keeps a late writer out; a later removal sweeps it.
CREATE INDEX grain_state_cleared ON grain_state (modified_at) WHERE payload IS NULL;
