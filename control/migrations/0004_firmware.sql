-- Releases of firmware, and rollouts: their devices, and what was decided about them.

CREATE TABLE firmware (
    id UUID PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    filename TEXT NOT NULL,
    -- What it is called in the store.
    object TEXT NOT NULL,
    file_size BIGINT NOT NULL,
    checksum TEXT NOT NULL,
    hardware TEXT,
    mandatory BOOLEAN NOT NULL,
    active BOOLEAN NOT NULL,
    release_notes TEXT,
    image JSONB NOT NULL,
    -- As they were signed, byte for byte.
    manifest TEXT,
    signature TEXT,
    manifest_expires TIMESTAMPTZ,
    warnings JSONB NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE rollouts (
    id UUID PRIMARY KEY,
    version TEXT NOT NULL,
    state TEXT NOT NULL,
    stage BIGINT NOT NULL,
    soak_since TIMESTAMPTZ,
    reason TEXT,
    plan JSONB NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    deadline_at TIMESTAMPTZ NOT NULL,
    -- Failures that a person has seen and let pass.
    forgiven BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX rollouts_state ON rollouts (state);
CREATE INDEX rollouts_version ON rollouts (version, created_at);
CREATE INDEX rollouts_created ON rollouts (created_at, id);

CREATE TABLE rollout_devices (
    rollout_id UUID NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    device_id TEXT NOT NULL,
    version TEXT NOT NULL,
    ordinal BIGINT NOT NULL,
    stage BIGINT NOT NULL,
    state TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    detail TEXT,
    from_version TEXT,
    -- How often it had started when it was told.
    boot_before BIGINT,
    request_id UUID,
    fetched_some BOOLEAN NOT NULL,
    fetched_all BOOLEAN NOT NULL,
    -- How often it failed in this rollout.
    failures BIGINT NOT NULL,
    -- Whether this is the rollout that the device is in.
    active BOOLEAN NOT NULL,
    PRIMARY KEY (rollout_id, device_id)
);
CREATE UNIQUE INDEX rollout_devices_active ON rollout_devices (device_id) WHERE active;
CREATE INDEX rollout_devices_order ON rollout_devices (rollout_id, ordinal);
CREATE INDEX rollout_devices_version ON rollout_devices (device_id, version);

CREATE TABLE rollout_decisions (
    id UUID PRIMARY KEY,
    rollout_id UUID NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    at TIMESTAMPTZ NOT NULL,
    decision TEXT NOT NULL,
    reason TEXT NOT NULL,
    figures JSONB NOT NULL
);
CREATE INDEX rollout_decisions_rollout ON rollout_decisions (rollout_id, id);

-- What the newest heartbeat said, and when it came by our clock.
ALTER TABLE devices ADD COLUMN beat_version TEXT;
ALTER TABLE devices ADD COLUMN beat_at TIMESTAMPTZ;
