-- Who did what that bears on access. Whatever role an application runs as: rows are added, never changed, and removed
-- only once they are old. The API's role may INSERT, the workers' (and the command line's) SELECT as well: nothing else.
-- Every database has one: what is done in a tenant's own database is told beside it.
CREATE TABLE audit_log (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    tenant text,
    subject text,
    address text,
    details jsonb NOT NULL
);
CREATE INDEX audit_log_by_time ON audit_log (at);

CREATE FUNCTION carillon_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < clock_timestamp() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'carillon: the audit log is only added to' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION carillon_audit_is_append_only();
CREATE TRIGGER audit_log_not_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION carillon_audit_is_append_only();

-- Retention, with the owner's rights: the application's role need not be allowed to delete. At most 10,000 rows a call.
CREATE FUNCTION carillon_forget_audit(days integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    DELETE FROM public.audit_log WHERE key IN (
        SELECT a.key FROM public.audit_log a
        WHERE a.at < clock_timestamp() - make_interval(days => greatest(days, 30)) ORDER BY a.at LIMIT 10000);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;

-- Rotation: two live keys of one family, of which the older one has a day to go.
-- The family is the prefix of its first key, whose own may be null.
ALTER TABLE producer_keys ADD COLUMN expires_at timestamptz, ADD COLUMN family text;
