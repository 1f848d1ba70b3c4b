-- The tables of a store, version 1. The broker makes them in a schema of their own; the search path names it alone.
--
-- Times are in ms since the Unix epoch; -1 stands for none.

-- What the store is: its version, and what else there is once.
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);

-- The documents of the rules: small values under ordered keys. A value is JSON, mostly; keys may hold any byte.
CREATE TABLE documents (key bytea PRIMARY KEY, value text NOT NULL) WITH (fillfactor = 80);

-- Bytes as text, also if they are none: then with escapes. A single record must not make a query fail.
CREATE FUNCTION text_of(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN encode(bytes, 'escape');
END $$;

-- A time in ms, if it is one: none has no date, and some producers send what is beyond all dates.
CREATE FUNCTION date_of(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN ms BETWEEN 0 AND 9224318015999999 THEN to_timestamp(ms / 1000.0) END;

CREATE VIEW documents_as_text AS SELECT text_of(key) AS key, value FROM documents;

-- The last commit of each connection that writes, by a number that the connection counts. Each transaction sets it, so that after
-- a COMMIT without an answer the row tells whether it was done, also on a standby that has taken over since.
CREATE TABLE commits (writer uuid PRIMARY KEY, number bigint NOT NULL, since timestamptz NOT NULL DEFAULT now())
    WITH (fillfactor = 10);

-- What is locked to change documents that belong to no partition: rows that are never changed. A lock root is hashed to one of
-- them, so that they cost nothing to make and need never be deleted. Advisory locks would use up shared memory.
CREATE TABLE locks (stripe integer PRIMARY KEY);

-- A partition's log. The row is locked to change anything of the partition.
CREATE TABLE logs (
    id bigint PRIMARY KEY,
    topic uuid NOT NULL,
    partition integer NOT NULL,
    log_start bigint NOT NULL,
    bytes bigint NOT NULL,          -- of its batches, from the log start offset on
    tail_start bigint NOT NULL,     -- the offset where its spans end
    tail_batches integer NOT NULL,  -- how many batches follow, or were there before compaction
    UNIQUE (topic, partition)
) WITH (fillfactor = 70);

-- What statements need to know of a topic: its name, and how what is appended is kept, as "rows" or as "batches".
CREATE TABLE topics (id uuid PRIMARY KEY, name text NOT NULL, layout text NOT NULL);
CREATE INDEX topics_by_name ON topics (name);

-- A batch of a log: where it is, how old, and where its bytes are: in batch_data, or, with a header that gives it back, in rows of
-- record_rows.
CREATE TABLE batches (
    log bigint NOT NULL,
    base_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    bytes integer NOT NULL,
    max_timestamp bigint NOT NULL,
    undated_ms bigint NOT NULL,     -- when the last batch with a record without timestamp was appended
    data bigint,
    header bytea,
    PRIMARY KEY (log, base_offset)
);

-- The bytes of batches, as they are sent, in parts that fit into a page each: that is faster to write and to read than one large
-- value, which the server would divide into four times as many.
CREATE TABLE batch_data (id bigint, part integer, bytes bytea NOT NULL, PRIMARY KEY (id, part));
ALTER TABLE batch_data ALTER COLUMN bytes SET STORAGE PLAIN;

-- Records. Headers are as in a batch. The time of an append is there only if all records of a batch have it.
CREATE TABLE record_rows (
    log bigint NOT NULL,
    record_offset bigint NOT NULL,
    timestamp_ms bigint NOT NULL,
    appended_ms bigint,
    key bytea,
    value bytea,
    headers bytea,
    PRIMARY KEY (log, record_offset)
);
ALTER TABLE record_rows ALTER COLUMN value SET STORAGE EXTERNAL;

-- What consecutive batches are together: on level 1 up to 256 of them, on each level above up to 16 spans of the one below.
CREATE TABLE spans (
    log bigint NOT NULL,
    level smallint NOT NULL,
    base_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    bytes bigint NOT NULL,
    max_timestamp bigint NOT NULL,
    undated_ms bigint NOT NULL,
    children integer NOT NULL,
    PRIMARY KEY (log, level, base_offset)
);

-- Batches that are deleted once their time has come: those of a log that end at or before an offset.
CREATE TABLE garbage (
    log bigint NOT NULL,
    before_offset bigint NOT NULL,
    since_ms bigint,
    PRIMARY KEY (log, before_offset)
);
CREATE INDEX garbage_by_time ON garbage (since_ms, log, before_offset);

-- Ids are handed out in ranges: a broker asks once for many.
CREATE SEQUENCE log_ids INCREMENT BY 64;
CREATE SEQUENCE data_ids INCREMENT BY 4096;

-- A number at a place in headers, and where what follows it begins.
CREATE FUNCTION varint_at(headers bytea, place integer, OUT number bigint, OUT next integer)
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
DECLARE
    shift integer := 0;
    part integer;
BEGIN
    number := 0;
    next := place;
    LOOP
        part := get_byte(headers, next);
        number := number | ((part & 127)::bigint << shift);
        next := next + 1;
        shift := shift + 7;
        EXIT WHEN part < 128;
    END LOOP;
    number := (number >> 1) # -(number & 1);
END $$;

-- The headers of a record, in order; keys may repeat.
CREATE FUNCTION headers_of(headers bytea) RETURNS TABLE (key text, value bytea)
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
DECLARE
    place integer := 0;
    count bigint := 0;
    length bigint;
BEGIN
    IF headers IS NULL THEN RETURN; END IF;
    SELECT v.number, v.next INTO count, place FROM varint_at(headers, place) v;
    FOR i IN 1..count LOOP
        SELECT v.number, v.next INTO length, place FROM varint_at(headers, place) v;
        key := text_of(substr(headers, place + 1, length::integer));
        place := place + length::integer;
        SELECT v.number, v.next INTO length, place FROM varint_at(headers, place) v;
        value := CASE WHEN length >= 0 THEN substr(headers, place + 1, length::integer) END;
        place := place + greatest(length, 0)::integer;
        RETURN NEXT;
    END LOOP;
END $$;

-- All records that are kept as rows, those of open and aborted transactions among them.
CREATE VIEW records AS
    SELECT t.name AS topic, l.partition, r.record_offset AS "offset",
        date_of(coalesce(r.appended_ms, r.timestamp_ms)) AS "timestamp", r.key, r.value, r.headers
    FROM topics t JOIN logs l ON l.topic = t.id
    JOIN record_rows r ON r.log = l.id AND r.record_offset >= l.log_start;

-- The first records of a partition from an offset on: one range of the primary key, however much is stored, whatever a planner makes of
-- the view.
CREATE FUNCTION records_from(of_topic text, of_partition integer, from_offset bigint, record_count integer DEFAULT 100)
RETURNS SETOF records LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    own record;
BEGIN
    SELECT l.id, l.log_start INTO own FROM topics t JOIN logs l ON l.topic = t.id
        WHERE t.name = of_topic AND l.partition = of_partition;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no partition % of topic %', of_partition, of_topic;
    END IF;
    RETURN QUERY SELECT of_topic, of_partition, r.record_offset,
        date_of(coalesce(r.appended_ms, r.timestamp_ms)), r.key, r.value, r.headers
        FROM record_rows r WHERE r.log = own.id AND r.record_offset >= greatest(from_offset, own.log_start)
        ORDER BY r.record_offset LIMIT record_count;
END $$;
REVOKE ALL ON FUNCTION records_from FROM PUBLIC;

-- The batches of a log from the one on that holds an offset: until they have so many bytes together, or are so many. It stops
-- reading there, however much follows.
CREATE FUNCTION locate(of_log bigint, from_offset bigint, end_offset bigint, bytes_max bigint, batches_max integer)
RETURNS SETOF batches LANGUAGE plpgsql STABLE ROWS 16 AS $$
DECLARE
    found batches%ROWTYPE;
    bytes_found bigint := 0;
    batches_found integer := 0;
BEGIN
    FOR found IN
        SELECT * FROM batches b WHERE b.log = of_log AND b.base_offset >= coalesce((SELECT max(h.base_offset)
            FROM batches h WHERE h.log = of_log AND h.base_offset <= from_offset), from_offset)
            AND b.base_offset < end_offset ORDER BY b.base_offset
    LOOP
        RETURN NEXT found;
        bytes_found := bytes_found + found.bytes;
        batches_found := batches_found + 1;
        EXIT WHEN bytes_found >= bytes_max OR batches_found >= batches_max;
    END LOOP;
END $$;

-- Makes a span of the batches of a log in a range of offsets, and extends those above it.
CREATE FUNCTION close_block(of_log bigint, from_offset bigint, until_offset bigint, fan_out integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    block spans%ROWTYPE;
    above spans%ROWTYPE;
    is_new boolean := true;
BEGIN
    SELECT of_log, 1, min(b.base_offset), max(b.next_offset), sum(b.bytes), max(b.max_timestamp), max(b.undated_ms), count(*)
        INTO block FROM batches b
        WHERE b.log = of_log AND b.base_offset >= from_offset AND b.base_offset < until_offset;
    INSERT INTO spans VALUES (block.*);
    FOR of_level IN 2..5 LOOP
        SELECT * INTO above FROM spans s WHERE s.log = of_log AND s.level = of_level ORDER BY s.base_offset DESC LIMIT 1;
        IF FOUND AND (NOT is_new OR above.children < fan_out) THEN
            UPDATE spans s SET
                next_offset = block.next_offset,
                bytes = above.bytes + block.bytes,
                max_timestamp = greatest(above.max_timestamp, block.max_timestamp),
                undated_ms = greatest(above.undated_ms, block.undated_ms),
                children = above.children + is_new::integer
                WHERE s.log = of_log AND s.level = of_level AND s.base_offset = above.base_offset;
            is_new := false;
        ELSE
            INSERT INTO spans VALUES (of_log, of_level, block.base_offset, block.next_offset, block.bytes,
                block.max_timestamp, block.undated_ms, 1);
            is_new := true;
        END IF;
    END LOOP;
END $$;

-- Works out anew the spans of a log that have batches in a range of offsets, which were replaced. New batches begin where old
-- ones began and have the same offsets together; the last one may reach beyond the spans, which end at tail_start now.
CREATE FUNCTION refresh_spans(of_log bigint, from_offset bigint, until_offset bigint, tail_start bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old record;
    new spans%ROWTYPE;
BEGIN
    FOR of_level IN 1..5 LOOP
        FOR old IN
            SELECT s.base_offset AS first, coalesce((SELECT min(n.base_offset) FROM spans n
                WHERE n.log = of_log AND n.level = of_level AND n.base_offset > s.base_offset), tail_start) AS upto
            FROM spans s
            WHERE s.log = of_log AND s.level = of_level AND s.base_offset < until_offset
                AND s.base_offset >= coalesce((SELECT max(f.base_offset) FROM spans f
                    WHERE f.log = of_log AND f.level = of_level AND f.base_offset <= from_offset), from_offset)
            ORDER BY s.base_offset
        LOOP
            IF of_level = 1 THEN
                SELECT of_log, of_level, min(b.base_offset), max(b.next_offset), sum(b.bytes), max(b.max_timestamp),
                    max(b.undated_ms), count(*) INTO new FROM batches b
                    WHERE b.log = of_log AND b.base_offset >= old.first AND b.base_offset < old.upto;
            ELSE
                SELECT of_log, of_level, min(b.base_offset), max(b.next_offset), sum(b.bytes), max(b.max_timestamp),
                    max(b.undated_ms), count(*) INTO new FROM spans b
                    WHERE b.log = of_log AND b.level = of_level - 1
                        AND b.base_offset >= old.first AND b.base_offset < old.upto;
            END IF;
            DELETE FROM spans s WHERE s.log = of_log AND s.level = of_level AND s.base_offset = old.first;
            IF new.children > 0 THEN
                INSERT INTO spans VALUES (new.*);
            END IF;
        END LOOP;
    END LOOP;
END $$;

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
    timestamp_ms bigint NOT NULL
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
CREATE FUNCTION check_message(topic text, headers jsonb, partition integer, bytes bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF topic IS NULL OR topic !~ '^[a-zA-Z0-9._-]{1,249}$' OR topic IN ('.', '..') THEN
        RAISE EXCEPTION '% is not a name of a topic', coalesce(quote_literal(topic), 'null') USING ERRCODE = '22023',
            HINT = 'It has 1 to 249 letters, digits, ".", "_" and "-".';
    END IF;
    IF partition < 0 THEN
        RAISE EXCEPTION 'there is no partition %', partition USING ERRCODE = '22023', HINT = 'The first one is 0.';
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
    PERFORM check_message(topic, headers, partition, bytes);
    id := nextval('outbox_ids');
    INSERT INTO outbox VALUES (id, pg_current_xact_id(), topic, partition, key, value, headers,
        floor(extract(epoch FROM coalesce("timestamp", clock_timestamp())) * 1000));
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
    largest bigint;
BEGIN
    IF keys IS NOT NULL AND cardinality(keys) <> count THEN
        RAISE EXCEPTION 'there are % values and % keys', count, cardinality(keys) USING ERRCODE = '22023',
            HINT = 'Write as many of them, or no keys at all.';
    END IF;
    SELECT max(coalesce(octet_length(m.value), 0)::bigint + coalesce(octet_length(m.key), 0)) INTO largest
        FROM unnest("values", keys) AS m(value, key);
    PERFORM check_message(topic, headers, partition, coalesce(largest, 0) + coalesce(octet_length(headers::text), 0));
    WITH numbered AS (
        INSERT INTO outbox SELECT nextval('outbox_ids'), pg_current_xact_id(), produce_many_bytea.topic, produce_many_bytea.partition, m.key,
            m.value, produce_many_bytea.headers,
            floor(extract(epoch FROM coalesce(produce_many_bytea."timestamp", clock_timestamp())) * 1000)
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
        (SELECT array_agg(convert_to(m.key, 'UTF8') ORDER BY m.place) FROM unnest(keys) WITH ORDINALITY AS m(key, place)),
        headers, partition, "timestamp")
$$;

-- Where a message of the outbox is in the log: no row before it is there, nor once it is longer ago than a day.
CREATE FUNCTION "position"(id bigint) RETURNS TABLE (topic text, partition integer, "offset" bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT p.topic, p.partition, p.record_offset FROM outbox_positions p WHERE p.id = $1
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
        RAISE EXCEPTION 'somebody else has taken messages of the outbox' USING ERRCODE = '40001';
    END IF;
    INSERT INTO outbox_positions SELECT m.id, m.topic, m.partition, m.record_offset
        FROM unnest(ids, topics, partitions, offsets) AS m(id, topic, partition, record_offset)
        ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, partition = excluded.partition,
            record_offset = excluded.record_offset, moved_at = now();
END $$;

-- How far a group of readers has come that reads by SQL. Kafka's groups are documents.
CREATE TABLE inbox (
    log bigint,
    reader text,
    next_offset bigint NOT NULL,
    polled bigint,                  -- up to where a transaction has read that has not committed it
    polled_by xid8,
    PRIMARY KEY (log, reader)
) WITH (fillfactor = 50);

-- A document by its key.
CREATE FUNCTION document(key text) RETURNS jsonb LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT d.value::jsonb FROM documents d WHERE d.key = convert_to($1, 'UTF8')
$$;

-- The aborted transactions of a partition with records in a range of offsets: the first offset of each, and that of its marker.
CREATE FUNCTION aborted_in(of_topic uuid, of_partition integer, from_offset bigint, until_offset bigint)
RETURNS TABLE (producer bigint, first_offset bigint, last_offset bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    prefix text := 'aborted-transaction/' || of_topic || '/' || of_partition;
    parts text[];
    stored record;
BEGIN
    FOR stored IN SELECT convert_from(d.key, 'UTF8') AS key, d.value::jsonb AS value FROM documents d
        WHERE d.key >= convert_to(prefix || '/' || lpad(from_offset::text, 19, '0'), 'UTF8')
            AND d.key < convert_to(prefix || '0', 'UTF8') ORDER BY d.key
    LOOP
        parts := string_to_array(stored.key, '/');
        producer := parts[5];
        first_offset := stored.value ->> 'first_offset';
        last_offset := parts[4];
        IF first_offset < until_offset THEN
            RETURN NEXT;
        END IF;
        -- Those that were aborted later begin after that.
        EXIT WHEN (stored.value ->> 'last_stable')::bigint >= until_offset;
    END LOOP;
END $$;

-- Whether a record was aborted. Records beside transactions are not, whatever becomes of their producer's.
CREATE FUNCTION is_aborted(of_log bigint, at_offset bigint, producers bigint[], firsts bigint[], lasts bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    batch bytea;
    by_producer bigint;
BEGIN
    SELECT b.header INTO batch FROM batches b WHERE b.log = of_log AND b.base_offset <= at_offset ORDER BY b.base_offset DESC LIMIT 1;
    IF batch IS NULL OR get_byte(batch, 22) & 16 = 0 THEN
        RETURN false;
    END IF;
    by_producer := ('x' || encode(substr(batch, 44, 8), 'hex'))::bit(64)::bigint;
    RETURN EXISTS (SELECT FROM unnest(producers, firsts, lasts) AS a(producer, first, last)
        WHERE a.producer = by_producer AND at_offset BETWEEN a.first AND a.last);
END $$;

-- Refuses to skip records that SQL cannot read: those of batches that are kept as they were sent, but for markers.
CREATE FUNCTION check_readable(of_topic text, of_log bigint, from_offset bigint, until_offset bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    unreadable bigint;
BEGIN
    SELECT greatest(b.base_offset, from_offset) INTO unreadable FROM batches b JOIN batch_data d ON d.id = b.data AND d.part = 0
        WHERE b.log = of_log AND b.next_offset > from_offset AND b.base_offset < until_offset
            AND b.base_offset >= coalesce((SELECT max(h.base_offset) FROM batches h
                WHERE h.log = of_log AND h.base_offset <= from_offset), from_offset)
            AND get_byte(d.bytes, 22) & 32 = 0 ORDER BY b.base_offset LIMIT 1;
    IF unreadable IS NOT NULL THEN
        RAISE EXCEPTION 'the records of topic % from offset % on are kept as batches, which SQL cannot read', of_topic, unreadable
            USING ERRCODE = '0A000', HINT = 'Read them by Kafka''s protocol, or go on behind them by commit(group, topic, partition, offset). '
                'What is sent after yagura.storage.layout=rows can be read.';
    END IF;
END $$;

-- The next records of a topic for a group of readers, up to so many, and none of aborted or open transactions. Each partition that
-- they are of is locked until the caller's transaction ends, so that other readers of the group get those of others meanwhile. Polled
-- again in the same transaction, it goes on.
CREATE FUNCTION poll("group" text, topic text, max_records integer DEFAULT 100, start text DEFAULT 'earliest')
RETURNS TABLE (partition integer, "offset" bigint, "timestamp" timestamptz, key bytea, value bytea, headers bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    of_topic uuid;
    part record;
    facts jsonb;
    stable bigint;
    place bigint;
    wanted integer := max_records;
    one record;
    rows_read integer;
    last_read bigint;
    producers bigint[];
    firsts bigint[];
    lasts bigint[];
BEGIN
    IF "group" IS NULL OR max_records IS NULL OR max_records < 1 OR start IS NULL OR start NOT IN ('earliest', 'latest') THEN
        RAISE EXCEPTION 'poll wants a group, a number of records of 1 or more, and a start' USING ERRCODE = '22023',
            HINT = 'A new group starts at ''earliest'' or at ''latest''.';
    END IF;
    SELECT t.id INTO of_topic FROM topics t WHERE t.name = poll.topic;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no topic %', poll.topic USING ERRCODE = '22023';
    END IF;
    FOR part IN SELECT l.id, l.partition, l.log_start FROM logs l WHERE l.topic = of_topic ORDER BY random() LOOP
        EXIT WHEN wanted = 0;
        facts := document('partition/' || of_topic || '/' || part.partition);
        stable := coalesce(facts ->> 'first_unstable', facts ->> 'end');
        CONTINUE WHEN stable IS NULL;
        SELECT CASE WHEN i.polled_by = pg_current_xact_id() THEN i.polled ELSE i.next_offset END INTO place FROM inbox i
            WHERE i.log = part.id AND i.reader = "group";
        IF NOT FOUND THEN
            INSERT INTO inbox VALUES (part.id, "group", CASE start WHEN 'latest' THEN stable ELSE part.log_start END)
                ON CONFLICT DO NOTHING;
        ELSIF place >= stable THEN
            CONTINUE;
        END IF;
        SELECT CASE WHEN i.polled_by = pg_current_xact_id() THEN i.polled ELSE i.next_offset END INTO place FROM inbox i
            WHERE i.log = part.id AND i.reader = "group" FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND OR place >= stable;
        place := greatest(place, part.log_start);
        WHILE wanted > 0 AND place < stable LOOP
            SELECT count(*), max(few.record_offset) INTO rows_read, last_read FROM (
                SELECT r.record_offset FROM record_rows r WHERE r.log = part.id AND r.record_offset >= place
                    AND r.record_offset < stable ORDER BY r.record_offset LIMIT wanted) few;
            IF rows_read = 0 THEN
                last_read := stable - 1;
            END IF;
            PERFORM check_readable(poll.topic, part.id, place, last_read + 1);
            producers := NULL;
            IF (facts ->> 'last_aborted')::bigint >= place THEN
                SELECT array_agg(a.producer), array_agg(a.first_offset), array_agg(a.last_offset) INTO producers, firsts, lasts
                    FROM aborted_in(of_topic, part.partition, place, last_read + 1) a;
            END IF;
            FOR one IN SELECT r.* FROM record_rows r WHERE r.log = part.id AND r.record_offset BETWEEN place AND last_read
                ORDER BY r.record_offset
            LOOP
                IF producers IS NOT NULL THEN
                    CONTINUE WHEN is_aborted(part.id, one.record_offset, producers, firsts, lasts);
                END IF;
                partition := part.partition;
                "offset" := one.record_offset;
                "timestamp" := date_of(coalesce(one.appended_ms, one.timestamp_ms));
                key := one.key;
                value := one.value;
                headers := one.headers;
                RETURN NEXT;
                wanted := wanted - 1;
            END LOOP;
            place := last_read + 1;
        END LOOP;
        UPDATE inbox i SET polled = place, polled_by = pg_current_xact_id() WHERE i.log = part.id AND i.reader = "group";
    END LOOP;
END $$;

-- Notes that a group of readers is done with what the caller's transaction has polled, or that it goes on at an offset of a partition:
-- with the transaction, or not at all.
CREATE FUNCTION commit("group" text, topic text, partition integer DEFAULT NULL, next_offset bigint DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    of_topic uuid;
    of_log bigint;
BEGIN
    IF "group" IS NULL OR (commit.partition IS NULL) <> (commit.next_offset IS NULL) OR commit.next_offset < 0 THEN
        RAISE EXCEPTION 'commit wants a group, and a partition with an offset or neither' USING ERRCODE = '22023',
            HINT = 'Without them, what was polled is committed; the offset is that of the next record.';
    END IF;
    SELECT t.id INTO of_topic FROM topics t WHERE t.name = commit.topic;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no topic %', commit.topic USING ERRCODE = '22023';
    END IF;
    IF commit.partition IS NULL THEN
        UPDATE inbox i SET next_offset = i.polled, polled = NULL, polled_by = NULL
            FROM logs l WHERE l.topic = of_topic AND i.log = l.id AND i.reader = "group" AND i.polled_by = pg_current_xact_id();
        RETURN;
    END IF;
    SELECT l.id INTO of_log FROM logs l WHERE l.topic = of_topic AND l.partition = commit.partition;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no partition % of topic %', commit.partition, commit.topic USING ERRCODE = '22023';
    END IF;
    INSERT INTO inbox VALUES (of_log, "group", commit.next_offset)
        ON CONFLICT (log, reader) DO UPDATE SET next_offset = excluded.next_offset, polled = NULL, polled_by = NULL;
END $$;

-- Groups of readers, and how many offsets each has before it.
CREATE VIEW inbox_lag AS
    SELECT i.reader AS "group", t.name AS topic, l.partition, i.next_offset,
        greatest((d.value::jsonb ->> 'end')::bigint - i.next_offset, 0) AS lag
    FROM inbox i JOIN logs l ON l.id = i.log JOIN topics t ON t.id = l.topic
    JOIN documents d ON d.key = convert_to('partition/' || l.topic || '/' || l.partition, 'UTF8');

-- What runs with the rights of the store's owner is for those to whom it is granted.
REVOKE ALL ON FUNCTION produce(text, bytea, bytea, jsonb, integer, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION produce_many_bytea(text, bytea[], bytea[], jsonb, integer, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION "position"(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION poll(text, text, integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION commit(text, text, integer, bigint) FROM PUBLIC;
