-- One row: the number that changes when the numbering of inboxes may restart (a restored backup).
CREATE TABLE deployment (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    epoch bigint NOT NULL CHECK (epoch > 0),
    system_identifier text NOT NULL,
    timeline integer NOT NULL
);

CREATE TABLE tenants (
    id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (id) VALUES ('platform');

-- One row for each recipient; it outlives the recipient so that the numbering goes on if the id returns.
-- Nothing that changes is indexed and half of each page is free: 98 % of the updates stay on their page (HOT).
CREATE TABLE inboxes (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL REFERENCES tenants (id),
    recipient text NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    created bigint NOT NULL DEFAULT 0,
    unread integer NOT NULL DEFAULT 0 CHECK (unread >= 0),
    unseen integer NOT NULL DEFAULT 0 CHECK (unseen >= 0),
    total integer NOT NULL DEFAULT 0 CHECK (total >= 0),
    floor_seq bigint NOT NULL DEFAULT 0,
    -- The ordinal up to which the cap has deleted everything.
    capped bigint NOT NULL DEFAULT 0,
    -- Its recipient was deleted: a fan-out that found the person before must leave the inbox alone once it has the lock.
    deserted boolean NOT NULL DEFAULT false,
    UNIQUE (tenant, recipient)
) WITH (fillfactor = 50);

CREATE TABLE recipients (
    key bigint PRIMARY KEY REFERENCES inboxes (key),
    tenant text NOT NULL REFERENCES tenants (id),
    id text NOT NULL,
    locale text NOT NULL DEFAULT 'en',
    attributes jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, id)
);
-- "Everyone" of a tenant is read in ranges of keys.
CREATE INDEX recipients_by_key ON recipients (tenant, key);
-- GitHub's logins have no case.
CREATE INDEX recipients_by_login ON recipients (tenant, lower(id));

CREATE TABLE recipient_roles (
    tenant text NOT NULL,
    role text NOT NULL,
    key bigint NOT NULL REFERENCES recipients (key) ON DELETE CASCADE,
    PRIMARY KEY (tenant, role, key)
);
CREATE INDEX recipient_roles_anywhere ON recipient_roles (role, key);
CREATE INDEX recipient_roles_by_key ON recipient_roles (key);

CREATE TABLE topic_members (
    tenant text NOT NULL,
    topic text NOT NULL,
    key bigint NOT NULL REFERENCES recipients (key) ON DELETE CASCADE,
    PRIMARY KEY (tenant, topic, key)
);
CREATE INDEX topic_members_by_key ON topic_members (key);

-- The queue of record. content_hash is the SHA-256 of the RFC 8785 form of what makes two events the same.
CREATE TABLE events (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL REFERENCES tenants (id),
    source text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    subject text,
    time text,
    dataschema text,
    data jsonb NOT NULL,
    content_hash bytea,
    traceparent text,
    registers boolean NOT NULL DEFAULT false,
    occurred_at timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'accepted'
        CHECK (state IN ('accepted', 'fanning_out', 'done', 'cancelling', 'cancelled', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    tried_at timestamptz,
    recipients bigint NOT NULL DEFAULT 0,
    notifications bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0,
    error text,
    finished_at timestamptz,
    UNIQUE (tenant, source, id)
) WITH (fillfactor = 70);
CREATE INDEX events_open ON events (key) WHERE state IN ('accepted', 'fanning_out', 'cancelling');
-- What the sweeper looks at each second, however many events are pending: large ones, cancels, suspects.
CREATE INDEX events_left ON events (key)
    WHERE state IN ('fanning_out', 'cancelling') OR (state = 'accepted' AND tried_at IS NOT NULL);

-- A large event's audience in ranges of inbox keys: (after_key, up_to_key], the last one open-ended.
CREATE TABLE fan_out_chunks (
    event_key bigint NOT NULL REFERENCES events (key) ON DELETE CASCADE,
    number integer NOT NULL,
    after_key bigint NOT NULL,
    up_to_key bigint NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'cancelled', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recipients bigint NOT NULL DEFAULT 0,
    notifications bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_key, number)
) WITH (fillfactor = 70);
CREATE INDEX fan_out_chunks_pending ON fan_out_chunks (event_key, number) WHERE state = 'pending';

-- A deleted notification stays as a tombstone (deleted_at set, texts emptied) until it is purged.
-- The id is time-ordered, so one event's notifications lie together in the primary key.
CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    key bigint NOT NULL,
    tenant text NOT NULL,
    event_key bigint NOT NULL,
    ordinal bigint NOT NULL,
    created_seq bigint NOT NULL,
    seq bigint NOT NULL,
    type text NOT NULL,
    priority smallint NOT NULL,
    title text NOT NULL,
    message text NOT NULL,
    action_url text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    seen_at timestamptz,
    read_at timestamptz,
    archived_at timestamptz,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX notifications_by_ordinal ON notifications (key, ordinal);
CREATE INDEX notifications_by_seq ON notifications (key, seq);
CREATE INDEX notifications_expiring ON notifications (expires_at) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX notifications_tombstones ON notifications (deleted_at) WHERE deleted_at IS NOT NULL;

-- Producer keys: the secret is kept as its SHA-256 only. tenants NULL means every tenant.
CREATE TABLE producer_keys (
    prefix text PRIMARY KEY,
    secret_hash bytea NOT NULL,
    tenants text[],
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    last_used_at timestamptz
);

-- Signing secrets verify an HMAC, so they are kept encrypted, not hashed.
CREATE TABLE signing_secrets (
    id text PRIMARY KEY,
    purpose text NOT NULL CHECK (purpose IN ('celery', 'github', 'standard')),
    tenant text NOT NULL REFERENCES tenants (id),
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX signing_secrets_by_tenant ON signing_secrets (tenant, purpose);

-- Written by a task of each lane: proves that the whole way from broker to worker works.
CREATE TABLE heartbeats (
    lane text PRIMARY KEY,
    beaten_at timestamptz NOT NULL
);

-- The producer's own transaction: the event becomes visible, and durable, with the producer's commit.
-- What needs the catalog (type, data) is checked when a worker claims the event; a wrong one becomes 'failed'.
-- Returns 'accepted' or 'duplicate'; raises when it is no CloudEvent of a known tenant, or differs from its first posting.
CREATE FUNCTION carillon_publish(event jsonb) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    name text;
    known public.events%ROWTYPE;
BEGIN
    IF jsonb_typeof(event) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'carillon: the event must be a JSON object' USING ERRCODE = '22023';
    END IF;
    IF event ->> 'specversion' IS DISTINCT FROM '1.0' THEN
        RAISE EXCEPTION 'carillon: specversion must be "1.0"' USING ERRCODE = '22023';
    END IF;
    FOREACH name IN ARRAY ARRAY['id', 'source', 'type', 'tenant'] LOOP
        IF jsonb_typeof(event -> name) IS DISTINCT FROM 'string' OR length(event ->> name) NOT BETWEEN 1 AND 200
           OR event ->> name ~ U&'[\0001-\001f\007f-\009f]' THEN
            RAISE EXCEPTION 'carillon: % must be a text of 1 to 200 printable characters', name USING ERRCODE = '22023';
        END IF;
    END LOOP;
    FOREACH name IN ARRAY ARRAY['subject', 'time', 'dataschema'] LOOP
        IF event ? name AND jsonb_typeof(event -> name) IS DISTINCT FROM 'string' THEN
            RAISE EXCEPTION 'carillon: % must be a text', name USING ERRCODE = '22023';
        END IF;
    END LOOP;
    IF event ? 'time' AND event ->> 'time' !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
        -- PostgreSQL itself would take "now" and "infinity".
        RAISE EXCEPTION 'carillon: time must be an RFC 3339 time' USING ERRCODE = '22023';
    END IF;
    IF jsonb_typeof(event -> 'data') IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'carillon: data must be a JSON object' USING ERRCODE = '22023';
    END IF;
    IF octet_length(event::text) > 65536 THEN
        RAISE EXCEPTION 'carillon: the event is larger than 65536 bytes' USING ERRCODE = '22023';
    END IF;
    -- What a reader of JSON behind the database cannot decode would hold up the queue.
    IF jsonb_path_exists(event, '$.**{33}') THEN
        RAISE EXCEPTION 'carillon: the event is nested deeper than 32 levels' USING ERRCODE = '22023';
    END IF;
    IF jsonb_path_exists(event, 'strict $.** ? (@.type() == "number" && (@ > 1.7e308 || @ < -1.7e308))') THEN
        RAISE EXCEPTION 'carillon: the event has a number out of range' USING ERRCODE = '22023';
    END IF;
    IF NOT EXISTS (SELECT FROM public.tenants t WHERE t.id = event ->> 'tenant') THEN
        RAISE EXCEPTION 'carillon: tenant % is not known', event ->> 'tenant' USING ERRCODE = '22023';
    END IF;
    INSERT INTO public.events (tenant, source, id, type, subject, time, dataschema, data, traceparent, occurred_at)
    VALUES (event ->> 'tenant', event ->> 'source', event ->> 'id', event ->> 'type', event ->> 'subject',
            event ->> 'time', event ->> 'dataschema', event -> 'data', event ->> 'traceparent',
            coalesce((event ->> 'time')::timestamptz, clock_timestamp()))
    ON CONFLICT (tenant, source, id) DO NOTHING;
    IF FOUND THEN
        PERFORM pg_notify('carillon_events', '');
        RETURN 'accepted';
    END IF;
    SELECT * INTO known FROM public.events e
    WHERE e.tenant = event ->> 'tenant' AND e.source = event ->> 'source' AND e.id = event ->> 'id';
    IF (known.type, known.data) IS DISTINCT FROM (event ->> 'type', event -> 'data')
       OR known.subject IS DISTINCT FROM event ->> 'subject' OR known.time IS DISTINCT FROM event ->> 'time'
       OR known.dataschema IS DISTINCT FROM event ->> 'dataschema' THEN
        RAISE EXCEPTION 'carillon: the event % was posted before with other content', event ->> 'id'
            USING ERRCODE = '23505';
    END IF;
    RETURN 'duplicate';
END
$$;
