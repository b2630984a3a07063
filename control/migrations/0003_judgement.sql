-- Rules, alerts, what is known of devices' presence, repairs, dead letters' replays.

CREATE TABLE rules (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body JSONB NOT NULL,
    mode TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE rule_versions (
    rule_id UUID NOT NULL,
    version BIGINT NOT NULL,
    body JSONB NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (rule_id, version)
);

CREATE TABLE alerts (
    id UUID PRIMARY KEY,
    device_id TEXT,
    -- The device's group when it was raised.
    group_id UUID,
    alert_type TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    value DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    metadata JSONB,
    origin TEXT NOT NULL,
    rule_id UUID,
    rule_version BIGINT,
    -- The readings that it rests on, as JSON.
    marks TEXT,
    -- Of a device's own alerts, the phase; of the system's, what tells them apart.
    subject TEXT NOT NULL,
    shadow BOOLEAN NOT NULL,
    backfilled BOOLEAN NOT NULL,
    silenced BOOLEAN NOT NULL,
    withdrawn BOOLEAN NOT NULL,
    acknowledged BOOLEAN NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at TIMESTAMPTZ,
    acknowledge_note TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    raised_at TIMESTAMPTZ NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ,
    resolved_by TEXT,
    resolution TEXT,
    incident_id UUID,
    reminded_at TIMESTAMPTZ,
    escalated_at TIMESTAMPTZ
);
CREATE INDEX alerts_created ON alerts (created_at, id);
CREATE INDEX alerts_device ON alerts (device_id, created_at);
CREATE INDEX alerts_open ON alerts (device_id, alert_type) WHERE resolved_at IS NULL;
CREATE INDEX alerts_rule ON alerts (rule_id, created_at);
CREATE INDEX alerts_incident ON alerts (incident_id);
CREATE INDEX alerts_group ON alerts (alert_type, group_id, created_at);
CREATE INDEX alerts_resolved ON alerts (resolved_at);

-- What devices said of alerts of their own, so that raise and clear pair in whatever order they come.
CREATE TABLE device_said (
    device_id TEXT NOT NULL,
    alert_type TEXT NOT NULL,
    phase TEXT NOT NULL,
    ts BIGINT NOT NULL,
    cleared BOOLEAN NOT NULL,
    body JSONB NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (device_id, alert_type, phase, ts, cleared)
);
CREATE INDEX device_said_at ON device_said (at);

-- The states of rules on a device that are not quiet.
CREATE TABLE judgements (
    device_id TEXT PRIMARY KEY,
    states TEXT NOT NULL
);

-- Devices whose episodes are to be found anew, and from which moment (microseconds) on.
CREATE TABLE repairs (
    device_id TEXT PRIMARY KEY,
    from_ts BIGINT NOT NULL,
    scheduled_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE silences (
    id UUID PRIMARY KEY,
    scope JSONB NOT NULL,
    alert_types JSONB NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    reason TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- When a boot of a device began (microseconds), known once and for ever.
CREATE TABLE anchors (
    device_id TEXT NOT NULL,
    boot BIGINT NOT NULL,
    started BIGINT NOT NULL,
    PRIMARY KEY (device_id, boot)
);

-- Boots of which readings without a time are dead letters.
CREATE TABLE clockless (
    device_id TEXT NOT NULL,
    boot BIGINT NOT NULL,
    newest_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (device_id, boot)
);

-- Dead letters that were brought again, by their identity.
CREATE TABLE replays (
    identity TEXT PRIMARY KEY,
    device_id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    replayed_by TEXT NOT NULL,
    outcome TEXT NOT NULL
);

ALTER TABLE devices ADD COLUMN connected BOOLEAN;
ALTER TABLE devices ADD COLUMN heard_at TIMESTAMPTZ;
ALTER TABLE devices ADD COLUMN vitals TEXT;
UPDATE devices SET heard_at = last_heartbeat;
CREATE INDEX devices_updated ON devices (updated_at);

ALTER TABLE outbox ADD COLUMN kind TEXT NOT NULL DEFAULT 'command';
-- Whether the log has it; then only the lake has yet to get it.
ALTER TABLE outbox ADD COLUMN logged BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX outbox_logged ON outbox (logged, seq);
