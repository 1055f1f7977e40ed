-- State of grains. The three hashes narrow a look-up; the names behind them make it exact. One row a grain and state, ever:
-- two silos that both believe a grain is new cannot both insert it.
CREATE TABLE grain_state (
    grain_hash  integer NOT NULL,
    type_hash   integer NOT NULL,
    key_high    bigint NOT NULL,
    key_low     bigint NOT NULL,
    type_name   varchar(512) NOT NULL,
    key_text    varchar(512),
    service     varchar(150) NOT NULL,
    version     integer NOT NULL,
    payload     bytea,
    modified_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX grain_state_key ON grain_state
    (grain_hash, type_hash, service, type_name, key_high, key_low, (coalesce(key_text, '')));

-- Returns the new version. The old one (or nothing, for a new grain) means that somebody else was faster, which Orleans reports as a conflict.
INSERT INTO orleansquery (querykey, querytext) VALUES ('WriteToStorageKey', '
WITH changed AS (
    UPDATE grain_state SET payload = @PayloadBinary, version = version + 1, modified_at = now()
    WHERE grain_hash = @GrainIdHash AND type_hash = @GrainTypeHash AND service = @ServiceId AND type_name = @GrainTypeString
      AND key_high = @GrainIdN0 AND key_low = @GrainIdN1 AND coalesce(key_text, '''') = coalesce(@GrainIdExtensionString::varchar, '''')
      AND version = @GrainStateVersion::integer
    RETURNING version
), added AS (
    INSERT INTO grain_state (grain_hash, type_hash, key_high, key_low, type_name, key_text, service, version, payload)
    SELECT @GrainIdHash, @GrainTypeHash, @GrainIdN0, @GrainIdN1, @GrainTypeString, @GrainIdExtensionString::varchar, @ServiceId, 1, @PayloadBinary
    WHERE @GrainStateVersion::integer IS NULL
    ON CONFLICT DO NOTHING
    RETURNING version
), outcome AS (
    SELECT version FROM changed UNION ALL SELECT version FROM added
)
SELECT coalesce((SELECT version FROM outcome), @GrainStateVersion::integer) AS NewGrainStateVersion
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('ReadFromStorageKey', '
SELECT payload AS PayloadBinary, version AS Version
FROM grain_state
WHERE grain_hash = @GrainIdHash AND type_hash = @GrainTypeHash AND service = @ServiceId AND type_name = @GrainTypeString
  AND key_high = @GrainIdN0 AND key_low = @GrainIdN1 AND coalesce(key_text, '''') = coalesce(@GrainIdExtensionString::varchar, '''')
');

-- The row stays, empty: its version keeps a late writer out.
INSERT INTO orleansquery (querykey, querytext) VALUES ('ClearStorageKey', '
UPDATE grain_state SET payload = NULL, version = version + 1, modified_at = now()
WHERE grain_hash = @GrainIdHash AND type_hash = @GrainTypeHash AND service = @ServiceId AND type_name = @GrainTypeString
  AND key_high = @GrainIdN0 AND key_low = @GrainIdN1 AND coalesce(key_text, '''') = coalesce(@GrainIdExtensionString::varchar, '''')
  AND version = @GrainStateVersion::integer
RETURNING version AS NewGrainStateVersion
');
