-- Reminders: what wakes a session whose deadline has come although nobody has called it.
CREATE TABLE reminder (
    service    varchar(150) NOT NULL,
    grain      varchar(512) NOT NULL,
    name       varchar(150) NOT NULL,
    grain_hash integer NOT NULL,
    start_at   timestamptz(3) NOT NULL,
    period     bigint NOT NULL,
    version    integer NOT NULL,
    PRIMARY KEY (service, grain, name)
);

CREATE INDEX reminder_by_hash ON reminder (service, grain_hash);

INSERT INTO orleansquery (querykey, querytext) VALUES ('UpsertReminderRowKey', '
INSERT INTO reminder (service, grain, name, grain_hash, start_at, period, version)
VALUES (@ServiceId, @GrainId, @ReminderName, @GrainHash, @StartTime, @Period::bigint, 1)
ON CONFLICT (service, grain, name) DO UPDATE
SET grain_hash = excluded.grain_hash, start_at = excluded.start_at, period = excluded.period, version = reminder.version + 1
RETURNING version AS Version
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('ReadReminderRowsKey', '
SELECT grain AS GrainId, name AS ReminderName, start_at AS StartTime, period AS Period, version AS Version
FROM reminder WHERE service = @ServiceId AND grain = @GrainId
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('ReadReminderRowKey', '
SELECT grain AS GrainId, name AS ReminderName, start_at AS StartTime, period AS Period, version AS Version
FROM reminder WHERE service = @ServiceId AND grain = @GrainId AND name = @ReminderName
');

-- A range of the hash ring, without and with its seam.
INSERT INTO orleansquery (querykey, querytext) VALUES ('ReadRangeRows1Key', '
SELECT grain AS GrainId, name AS ReminderName, start_at AS StartTime, period AS Period, version AS Version
FROM reminder WHERE service = @ServiceId AND grain_hash > @BeginHash AND grain_hash <= @EndHash
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('ReadRangeRows2Key', '
SELECT grain AS GrainId, name AS ReminderName, start_at AS StartTime, period AS Period, version AS Version
FROM reminder WHERE service = @ServiceId AND (grain_hash > @BeginHash OR grain_hash <= @EndHash)
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('DeleteReminderRowKey', '
WITH gone AS (
    DELETE FROM reminder WHERE service = @ServiceId AND grain = @GrainId AND name = @ReminderName AND version = @Version RETURNING 1
)
SELECT count(*)::integer FROM gone
');

INSERT INTO orleansquery (querykey, querytext) VALUES ('DeleteReminderRowsKey', '
DELETE FROM reminder WHERE service = @ServiceId
');
