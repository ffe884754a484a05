-- What a session cookie stands for; the cookie's value is kept as its SHA-256 only. Ended means deleted.
-- Looked up before the tenant is known, as producer_keys are.
CREATE TABLE sessions (
    name text PRIMARY KEY,
    tenant text NOT NULL,
    recipient text NOT NULL,
    roles text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_recipient ON sessions (tenant, recipient, created_at);
CREATE INDEX sessions_expiring ON sessions (expires_at);

-- What was issued to a recipient ('' for everyone of the tenant) up to revoked_at is void. Every API process reads all
-- of them, for whatever tenant. Recipients whom the directory does not know may be revoked, too.
CREATE TABLE revocations (
    tenant text NOT NULL,
    recipient text NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, recipient)
);
CREATE INDEX revocations_by_time ON revocations (revoked_at);
