-- The outbox of a store: messages that are sent by SQL.

-- Messages that programs send within transactions of their own. A broker moves what is committed into the log, in the order of ids:
-- a transaction that has begun after another was committed has later ones. Nobody waits for a transaction that is still open.
CREATE SEQUENCE outbox_ids;
CREATE TABLE outbox (
    id bigint PRIMARY KEY,
    xact xid8 NOT NULL,             -- by it a broker finds what was committed since it has looked
    topic text NOT NULL,
    partition integer,              -- if left out, by the key as Kafka's producer does it
    key bytea,
    value bytea,
    headers jsonb,
    timestamp_ms bigint NOT NULL,
    bytes bigint NOT NULL           -- of key, value and headers as text: what measures headers reads them
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
CREATE INDEX outbox_by_xact ON outbox (xact, id);

-- Where messages are that were moved. Each is kept for a day.
CREATE TABLE outbox_positions (
    id bigint PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_positions_by_time ON outbox_positions (moved_at);

-- Messages that no log takes, with the reason. They stay until somebody deletes them.
CREATE TABLE outbox_rejected (
    id bigint PRIMARY KEY,
    topic text NOT NULL,
    partition integer,
    key bytea,
    value bytea,
    headers jsonb,
    timestamp_ms bigint NOT NULL,
    error text NOT NULL,            -- Kafka's name of it
    reason text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now()
);

-- Refuses a message that no log would take, while whoever sends it can still do something about it.
CREATE FUNCTION check_message(topic text, headers jsonb, partition integer, "timestamp" timestamptz, bytes bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF topic IS NULL OR topic !~ '^[a-zA-Z0-9._-]{1,249}$' OR topic IN ('.', '..') THEN
        RAISE EXCEPTION '% is not a name of a topic', coalesce(quote_literal(topic), 'null') USING ERRCODE = '22023',
            HINT = 'It has 1 to 249 letters, digits, ".", "_" and "-".';
    END IF;
    IF partition < 0 THEN
        RAISE EXCEPTION 'there is no partition %', partition USING ERRCODE = '22023', HINT = 'The first one is 0.';
    END IF;
    IF "timestamp" < 'epoch' OR NOT isfinite("timestamp") THEN
        RAISE EXCEPTION 'a message cannot be of %', "timestamp" USING ERRCODE = '22023', HINT = 'Times begin in 1970.';
    END IF;
    IF bytes > 16777216 THEN
        RAISE EXCEPTION 'a message of % bytes is too large for the outbox', bytes USING ERRCODE = '54000',
            HINT = 'It may have 16 MiB, and no more than max.message.bytes of its topic.';
    END IF;
    IF (CASE jsonb_typeof(headers)
        WHEN 'object' THEN EXISTS (SELECT FROM jsonb_each(headers) h WHERE jsonb_typeof(h.value) NOT IN ('string', 'null'))
        WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements(headers) h WHERE jsonb_typeof(h.value) <> 'array'
            OR jsonb_array_length(h.value) <> 2 OR jsonb_typeof(h.value -> 0) <> 'string'
            OR jsonb_typeof(h.value -> 1) NOT IN ('string', 'null'))
        ELSE headers IS NOT NULL
    END) THEN
        RAISE EXCEPTION 'these are no headers: %', left(headers::text, 200) USING ERRCODE = '22023',
            HINT = 'Write an object of texts, such as {"source": "billing"}, or a list of pairs, such as [["source", "billing"]].';
    END IF;
END $$;

-- Wakes brokers once the transaction is committed, unless they are to poll: transactions that notify wait for each other at their
-- commits.
CREATE FUNCTION wake_brokers() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF coalesce(nullif(current_setting('yagura.outbox_notify', true), ''), 'on')::boolean THEN
        PERFORM pg_notify('yagura_outbox', current_schema());
    END IF;
END $$;

-- Sends a message when the caller's transaction is committed, and not if it is rolled back; returns the message's id.
CREATE FUNCTION produce(topic text, value bytea, key bytea DEFAULT NULL, headers jsonb DEFAULT NULL, partition integer DEFAULT NULL,
    "timestamp" timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    id bigint;
    bytes bigint := coalesce(octet_length(key), 0)::bigint + coalesce(octet_length(value), 0)
        + coalesce(octet_length(headers::text), 0);
BEGIN
    PERFORM check_message(topic, headers, partition, "timestamp", bytes);
    id := nextval('outbox_ids');
    INSERT INTO outbox VALUES (id, pg_current_xact_id(), topic, partition, key, value, headers,
        floor(extract(epoch FROM coalesce("timestamp", clock_timestamp())) * 1000), bytes);
    PERFORM wake_brokers();
    RETURN id;
END $$;

CREATE FUNCTION produce(topic text, value text, key text DEFAULT NULL, headers jsonb DEFAULT NULL, partition integer DEFAULT NULL,
    "timestamp" timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT produce(topic, convert_to(value, 'UTF8'), convert_to(key, 'UTF8'), headers, partition, "timestamp")
$$;

-- The same for many messages of a topic, in their order; those without keys share a partition, mostly. Returns their ids. Two names,
-- because many clients do not say of what type an array is.
CREATE FUNCTION produce_many_bytea(topic text, "values" bytea[], keys bytea[] DEFAULT NULL, headers jsonb DEFAULT NULL,
    partition integer DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL)
RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    count integer := coalesce(cardinality("values"), 0);
    ids bigint[] := '{}';
    header_bytes bigint := coalesce(octet_length(headers::text), 0);
    largest bigint;
BEGIN
    IF keys IS NOT NULL AND cardinality(keys) <> count THEN
        RAISE EXCEPTION 'there are % values and % keys', count, cardinality(keys) USING ERRCODE = '22023',
            HINT = 'Write as many of them, or no keys at all.';
    END IF;
    SELECT max(coalesce(octet_length(m.value), 0)::bigint + coalesce(octet_length(m.key), 0)) INTO largest
        FROM unnest("values", keys) AS m(value, key);
    PERFORM check_message(topic, headers, partition, "timestamp", coalesce(largest, 0) + header_bytes);
    WITH numbered AS (
        INSERT INTO outbox SELECT nextval('outbox_ids'), pg_current_xact_id(), produce_many_bytea.topic, produce_many_bytea.partition, m.key,
            m.value, produce_many_bytea.headers,
            floor(extract(epoch FROM coalesce(produce_many_bytea."timestamp", clock_timestamp())) * 1000),
            coalesce(octet_length(m.key), 0)::bigint + coalesce(octet_length(m.value), 0) + header_bytes
            FROM (SELECT * FROM unnest("values", keys) WITH ORDINALITY AS m(value, key, place) ORDER BY place) m
        RETURNING outbox.id
    )
    SELECT coalesce(array_agg(n.id ORDER BY n.id), '{}') INTO ids FROM numbered n;
    IF count > 0 THEN
        PERFORM wake_brokers();
    END IF;
    RETURN ids;
END $$;

CREATE FUNCTION produce_many(topic text, "values" text[], keys text[] DEFAULT NULL, headers jsonb DEFAULT NULL,
    partition integer DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL)
RETURNS bigint[] LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT produce_many_bytea(topic,
        (SELECT array_agg(convert_to(m.value, 'UTF8') ORDER BY m.place) FROM unnest("values") WITH ORDINALITY AS m(value, place)),
        CASE WHEN keys IS NOT NULL THEN coalesce((SELECT array_agg(convert_to(m.key, 'UTF8') ORDER BY m.place)
            FROM unnest(keys) WITH ORDINALITY AS m(key, place)), '{}') END,
        headers, partition, "timestamp")
$$;

-- Where a message of the outbox is in the log: no row before it is there, nor once it is longer ago than a day.
CREATE FUNCTION "position"(id bigint) RETURNS TABLE (topic text, partition integer, "offset" bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT p.topic, p.partition, p.record_offset FROM outbox_positions p WHERE p.id = $1
$$;

-- Sends messages again that were rejected, with their ids.
CREATE FUNCTION send_again(ids bigint[]) RETURNS bigint LANGUAGE sql SET search_path FROM CURRENT AS $$
    WITH gone AS (DELETE FROM outbox_rejected r WHERE r.id = ANY (ids) RETURNING r.*), sent AS (
        INSERT INTO outbox SELECT g.id, pg_current_xact_id(), g.topic, g.partition, g.key, g.value, g.headers, g.timestamp_ms,
            coalesce(octet_length(g.key), 0)::bigint + coalesce(octet_length(g.value), 0)
            + coalesce(octet_length(g.headers::text), 0) FROM gone g RETURNING 1)
    SELECT count(*) FROM sent, wake_brokers()
$$;

-- Takes messages out of the outbox in the transaction that appends them. Whoever finds them gone has decided on what is no more so.
CREATE FUNCTION settle_outbox(ids bigint[], topics text[], partitions integer[], offsets bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    count bigint;
BEGIN
    DELETE FROM outbox o WHERE o.id = ANY (ids);
    GET DIAGNOSTICS count = ROW_COUNT;
    IF count <> cardinality(ids) THEN
        RAISE EXCEPTION 'somebody else has taken messages of the outbox';
    END IF;
    INSERT INTO outbox_positions SELECT m.id, m.topic, m.partition, m.record_offset
        FROM unnest(ids, topics, partitions, offsets) AS m(id, topic, partition, record_offset)
        ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, partition = excluded.partition,
            record_offset = excluded.record_offset, moved_at = now();
END $$;

-- What runs with the rights of the store's owner is for those to whom it is granted.
REVOKE ALL ON FUNCTION produce(text, bytea, bytea, jsonb, integer, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION produce_many_bytea(text, bytea[], bytea[], jsonb, integer, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION "position"(bigint) FROM PUBLIC;
