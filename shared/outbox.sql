-- Carillon's outbox, for a producer's own database (PostgreSQL 13 or newer). Run it there once, as the owner of the
-- schema {schema}; it is safe to repeat.
DO $guard$ BEGIN
    IF to_regclass('{schema}.fan_out_chunks') IS NOT NULL THEN
        RAISE EXCEPTION 'this is Carillon''s own database: producers call carillon_publish here without an outbox';
    END IF;
END $guard$;

-- Events that were committed and that Carillon has not taken yet. It takes them in the order of their positions and
-- deletes what it has stored; one that it refused stays, with the reason, and keeps no other one waiting.
CREATE TABLE IF NOT EXISTS {schema}.carillon_outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused_at timestamptz,
    reason text
);
-- However many refused ones there are, the waiting ones are found at once.
CREATE INDEX IF NOT EXISTS carillon_outbox_waiting ON {schema}.carillon_outbox (position) WHERE refused_at IS NULL;

-- Publishes an event with the commit of the calling transaction. What is certainly wrong ends that with a sentence;
-- the type, its data and the tenant are checked when Carillon takes the event.
CREATE OR REPLACE FUNCTION {schema}.carillon_publish(event jsonb) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    IF jsonb_typeof(event) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'carillon: the event must be a JSON object' USING ERRCODE = '22023';
    END IF;
    IF event ->> 'specversion' IS DISTINCT FROM '1.0' THEN
        RAISE EXCEPTION 'carillon: specversion must be "1.0"' USING ERRCODE = '22023';
    END IF;
    FOREACH name IN ARRAY ARRAY['id', 'source', 'type', 'tenant'] LOOP
        IF jsonb_typeof(event -> name) IS DISTINCT FROM 'string' OR length(event ->> name) NOT BETWEEN 1 AND 200 THEN
            RAISE EXCEPTION 'carillon: % must be a text of 1 to 200 characters', name USING ERRCODE = '22023';
        END IF;
    END LOOP;
    IF event ? 'data' AND jsonb_typeof(event -> 'data') IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'carillon: data must be a JSON object' USING ERRCODE = '22023';
    END IF;
    INSERT INTO {schema}.carillon_outbox (event) VALUES (carillon_publish.event);
    RETURN 'accepted';
END $$;
REVOKE EXECUTE ON FUNCTION {schema}.carillon_publish(jsonb) FROM PUBLIC;
