-- The inbox of a store: records that are read by SQL, as a group.

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
REVOKE ALL ON FUNCTION poll(text, text, integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION commit(text, text, integer, bigint) FROM PUBLIC;
