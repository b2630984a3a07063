-- Notifications: who is told, what waits to be sent, and how far events are read for it.

CREATE TABLE notifications (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body JSONB NOT NULL,
    -- Messages are signed with it, so it is needed as it is.
    secret TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE notices (
    id UUID PRIMARY KEY,
    notification_id UUID NOT NULL,
    kind TEXT NOT NULL,
    -- What comes within the notification's time under the same key is one message.
    group_key TEXT NOT NULL,
    title TEXT NOT NULL,
    items JSONB NOT NULL,
    item_count BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    answer TEXT
);
CREATE INDEX notices_due ON notices (due_at) WHERE state = 'waiting';
CREATE INDEX notices_waiting ON notices (notification_id, group_key, id) WHERE state = 'waiting';
CREATE INDEX notices_of ON notices (notification_id, id);
CREATE INDEX notices_finished ON notices (finished_at);

-- Alerts that somebody was told of and not yet that they are over.
CREATE TABLE notice_episodes (
    notification_id UUID NOT NULL,
    alert_id UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (notification_id, alert_id)
);

-- Up to where the log's events are noted.
CREATE TABLE notice_places (
    epoch BIGINT NOT NULL,
    partition_number BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    outbox_seq BIGINT NOT NULL,
    PRIMARY KEY (epoch, partition_number)
);
