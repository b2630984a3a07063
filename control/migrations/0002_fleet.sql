-- The fleet: groups, what devices report, commands, configurations, scopes, audit, outbox.

CREATE TABLE groups (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    nominal_voltage_v DOUBLE PRECISION,
    nominal_frequency_hz DOUBLE PRECISION,
    time_zone TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

ALTER TABLE devices ADD COLUMN description TEXT;
ALTER TABLE devices ADD COLUMN group_id UUID REFERENCES groups (id) ON DELETE SET NULL;
ALTER TABLE devices ADD COLUMN tags JSONB;
ALTER TABLE devices ADD COLUMN nominal_voltage_v DOUBLE PRECISION;
ALTER TABLE devices ADD COLUMN nominal_frequency_hz DOUBLE PRECISION;
ALTER TABLE devices ADD COLUMN time_zone TEXT;
ALTER TABLE devices ADD COLUMN status TEXT NOT NULL DEFAULT 'offline';
ALTER TABLE devices ADD COLUMN status_at TIMESTAMPTZ;
ALTER TABLE devices ADD COLUMN last_heartbeat TIMESTAMPTZ;
ALTER TABLE devices ADD COLUMN heartbeat_interval_s BIGINT;
ALTER TABLE devices ADD COLUMN last_telemetry TIMESTAMPTZ;
ALTER TABLE devices ADD COLUMN connection_type TEXT;
ALTER TABLE devices ADD COLUMN signal_strength BIGINT;
ALTER TABLE devices ADD COLUMN ip_address TEXT;
ALTER TABLE devices ADD COLUMN uptime_ms BIGINT;
-- All loggers that ever stood at one place share its name, the id of the first.
ALTER TABLE devices ADD COLUMN site TEXT;
ALTER TABLE devices ADD COLUMN replaces TEXT;
ALTER TABLE devices ADD COLUMN replaced_by TEXT;
ALTER TABLE devices ADD COLUMN replaced_at TIMESTAMPTZ;
-- What a search looks at, in lower case.
ALTER TABLE devices ADD COLUMN search TEXT NOT NULL DEFAULT '';
UPDATE devices SET site = device_id,
    search = LOWER(device_id || ' ' || COALESCE(name, '') || ' ' || COALESCE(mac_address, '') || ' '
        || COALESCE(imei, '') || ' ' || COALESCE(iccid, '') || ' ' || COALESCE(meter_serial, ''));

CREATE INDEX devices_search ON devices (search, device_id);
CREATE INDEX devices_group ON devices (group_id, device_id);
CREATE INDEX devices_site ON devices (site);
CREATE INDEX devices_name ON devices ((COALESCE(name, '')), device_id);
CREATE INDEX devices_firmware ON devices ((COALESCE(firmware_version, '')), device_id);
CREATE INDEX devices_status ON devices (status, device_id);
CREATE INDEX devices_created ON devices (created_at, device_id);
CREATE INDEX devices_heartbeat ON devices ((COALESCE(last_heartbeat, created_at)), device_id);
CREATE INDEX devices_status_heartbeat
    ON devices (status, (COALESCE(last_heartbeat, created_at)), device_id);

CREATE INDEX devices_telemetry ON devices ((COALESCE(last_telemetry, created_at)), device_id);

CREATE TABLE device_tags (
    tag TEXT NOT NULL,
    device_id TEXT NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    PRIMARY KEY (tag, device_id)
);
CREATE INDEX device_tags_device ON device_tags (device_id);

CREATE TABLE commands (
    request_id UUID PRIMARY KEY,
    device_id TEXT NOT NULL,
    command TEXT NOT NULL,
    -- As it is shown, secrets masked.
    params JSONB NOT NULL,
    -- As it is sent, until it is.
    secret_params TEXT,
    status TEXT NOT NULL,
    deliver TEXT NOT NULL,
    -- Whether it waits for the device.
    waiting BOOLEAN NOT NULL,
    -- Counts the times that it was let go; and when nobody was there to take it.
    attempt BIGINT NOT NULL,
    nobody_at TIMESTAMPTZ,
    first_timeout_s BIGINT NOT NULL,
    ack_timeout_s BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    deadline TIMESTAMPTZ,
    sent_at TIMESTAMPTZ,
    ack_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    response JSONB,
    error TEXT,
    group_command UUID,
    idempotency_key TEXT,
    config_section TEXT
);
CREATE INDEX commands_device ON commands (device_id, created_at);
CREATE INDEX commands_deadline ON commands (deadline);
CREATE INDEX commands_waiting ON commands (device_id, request_id) WHERE waiting;
CREATE INDEX commands_group ON commands (group_command);
CREATE INDEX commands_finished ON commands (finished_at);
CREATE INDEX commands_section ON commands (device_id, config_section, created_at);
CREATE UNIQUE INDEX commands_key ON commands (device_id, idempotency_key);

CREATE TABLE command_answers (
    id UUID PRIMARY KEY,
    request_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    verdict TEXT NOT NULL,
    answer JSONB NOT NULL
);
CREATE INDEX command_answers_request ON command_answers (request_id);
CREATE INDEX command_answers_device ON command_answers (device_id, id);

CREATE TABLE configs (
    device_id TEXT NOT NULL,
    section TEXT NOT NULL,
    desired TEXT,
    reported TEXT,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (device_id, section)
);

CREATE TABLE config_changes (
    device_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    changed_by TEXT NOT NULL,
    section TEXT NOT NULL,
    changed JSONB NOT NULL,
    request_id UUID,
    PRIMARY KEY (device_id, version)
);

-- What a change causes elsewhere, written in its transaction. Numbered and delivered by one.
CREATE TABLE outbox (
    id UUID PRIMARY KEY,
    device_id TEXT NOT NULL,
    request_id UUID NOT NULL,
    body TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    attempt BIGINT NOT NULL,
    seq BIGINT
);
CREATE INDEX outbox_seq ON outbox (seq);

ALTER TABLE refresh_tokens ADD COLUMN session_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN scope JSONB;
ALTER TABLE users ADD COLUMN enabled BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE api_keys ADD COLUMN scope JSONB;

CREATE TABLE audit (
    id UUID PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    actor_id UUID,
    actor TEXT NOT NULL,
    address TEXT,
    request TEXT,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail JSONB NOT NULL
);
CREATE INDEX audit_object ON audit (object, id);
CREATE INDEX audit_actor ON audit (actor, id);
