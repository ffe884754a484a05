-- One row for each job of which only one may work at a time. Whoever locks the row has the turn until its commit; a
-- session's advisory lock would not survive a pooler of transactions, nor end with a transaction.
CREATE TABLE job_turns (job text PRIMARY KEY);
INSERT INTO job_turns (job) VALUES ('failed_logins');

-- Failed logins that are in no window: written in the transaction that ends their events, taken by the job.
-- kept_at null: the job has not seen it. Set: it waits for others that would open a window with it.
CREATE TABLE failed_logins (
    event_key bigint PRIMARY KEY,
    tenant text NOT NULL,
    account text NOT NULL,
    at timestamptz NOT NULL,
    kept_at timestamptz
);
CREATE INDEX failed_logins_in_turn ON failed_logins (kept_at, event_key);
CREATE INDEX failed_logins_of_account ON failed_logins (tenant, account) WHERE kept_at IS NOT NULL;

-- A window of failed logins that became an event. It lasts as long as its event.
-- told: how many failures the notifications tell, as of told_at. telling: how many they will, once a round through a
-- large audience has come past its last inbox; told_up_to is how far that round is.
CREATE TABLE failed_login_windows (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_key bigint NOT NULL UNIQUE REFERENCES events (key) ON DELETE CASCADE,
    tenant text NOT NULL,
    account text NOT NULL,
    started_at timestamptz NOT NULL,
    failures bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    ip text,
    user_agent text,
    addresses jsonb NOT NULL,
    made_at timestamptz NOT NULL,
    told bigint NOT NULL,
    told_at timestamptz NOT NULL,
    telling bigint,
    told_up_to bigint NOT NULL DEFAULT 0,
    UNIQUE (tenant, account, started_at)
) WITH (fillfactor = 50);
CREATE INDEX failed_login_windows_untold ON failed_login_windows (told_at) WHERE told < failures;
