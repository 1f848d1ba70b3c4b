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

-- The producer of a batch that is kept as rows, if it is of a transaction.
CREATE FUNCTION transactional_producer(header bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN get_byte(header, 22) & 16 <> 0 THEN ('x' || encode(substr(header, 44, 8), 'hex'))::bit(64)::bigint END
$$;

-- The first records in a range of offsets that SQL cannot read: those of a batch that is kept as it was sent, and no marker.
CREATE FUNCTION unreadable(of_log bigint, from_offset bigint, until_offset bigint, OUT first_offset bigint, OUT next_offset bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT greatest(b.base_offset, from_offset), b.next_offset FROM batches b JOIN batch_data d ON d.id = b.data AND d.part = 0
        WHERE b.log = of_log AND b.next_offset > from_offset AND b.base_offset < until_offset
            AND b.base_offset >= coalesce((SELECT max(h.base_offset) FROM batches h
                WHERE h.log = of_log AND h.base_offset <= from_offset), from_offset)
            AND get_byte(d.bytes, 22) & 32 = 0 ORDER BY b.base_offset LIMIT 1
$$;

-- The next records of a topic for a group of readers, up to so many, and none of aborted or open transactions. Each partition that
-- they are of is locked until the caller's transaction ends, so that other readers of the group get those of others meanwhile. Polled
-- again in the same transaction, it goes on.
CREATE FUNCTION poll("group" text, topic text, max_records integer DEFAULT 100, start text DEFAULT 'earliest')
RETURNS TABLE (partition integer, "offset" bigint, "timestamp" timestamptz, key bytea, value bytea, headers bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    of_topic uuid;
    is_new boolean;
    part record;
    facts jsonb;
    stable bigint;
    place bigint;
    wanted integer := max_records;
    one record;
    rows_found integer;
    last_found bigint;
    unread_from bigint;
    unread_until bigint;
    refused text;
    remedy text;
    producers bigint[];
    firsts bigint[];
    lasts bigint[];
    next_aborted integer;
    aborted jsonb;
    batch_until bigint;
    is_aborted boolean;
BEGIN
    IF "group" IS NULL OR max_records IS NULL OR max_records < 1 OR start IS NULL OR start NOT IN ('earliest', 'latest') THEN
        RAISE EXCEPTION 'poll wants a group, a number of records of 1 or more, and a start' USING ERRCODE = '22023',
            HINT = 'A new group starts at ''earliest'' or at ''latest''.';
    END IF;
    SELECT t.id INTO of_topic FROM topics t WHERE t.name = poll.topic;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no topic %', poll.topic USING ERRCODE = '22023';
    END IF;
    is_new := NOT EXISTS (SELECT FROM logs l JOIN inbox i ON i.log = l.id WHERE l.topic = of_topic AND i.reader = "group");
    FOR part IN SELECT l.id, l.partition, l.log_start FROM logs l WHERE l.topic = of_topic ORDER BY random() LOOP
        EXIT WHEN wanted = 0;
        facts := document('partition/' || of_topic || '/' || part.partition);
        stable := coalesce(facts ->> 'first_unstable', facts ->> 'end');
        CONTINUE WHEN stable IS NULL;
        SELECT CASE WHEN i.polled_by = pg_current_xact_id() THEN i.polled ELSE i.next_offset END INTO place FROM inbox i
            WHERE i.log = part.id AND i.reader = "group";
        IF NOT FOUND THEN
            -- Nobody waits for another reader that does the same.
            CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtext('yagura inbox'), hashtext(part.id || ' ' || "group"));
            INSERT INTO inbox VALUES (part.id, "group", CASE WHEN is_new AND start = 'latest' THEN stable ELSE part.log_start END)
                ON CONFLICT DO NOTHING;
        ELSIF place >= stable THEN
            CONTINUE;
        END IF;
        SELECT CASE WHEN i.polled_by = pg_current_xact_id() THEN i.polled ELSE i.next_offset END INTO place FROM inbox i
            WHERE i.log = part.id AND i.reader = "group" FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND OR place >= stable;
        place := greatest(place, part.log_start);
        WHILE wanted > 0 AND place < stable LOOP
            -- Many at a time, however few are wanted: there may be as many that were aborted.
            SELECT count(*), max(few.record_offset) INTO rows_found, last_found FROM (
                SELECT r.record_offset FROM record_rows r WHERE r.log = part.id AND r.record_offset >= place
                    AND r.record_offset < stable ORDER BY r.record_offset LIMIT greatest(wanted, 1000)) few;
            IF rows_found = 0 THEN
                last_found := stable - 1;
            END IF;
            SELECT u.first_offset, u.next_offset INTO unread_from, unread_until FROM unreadable(part.id, place, last_found + 1) u;
            IF unread_from = place THEN
                refused := format('the records of partition %s of topic %s from offset %s up to %s are kept as batches, which SQL cannot read',
                    part.partition, poll.topic, place, unread_until - 1);
                remedy := format('Read them by Kafka''s protocol, and go on behind them by commit(%L, %L, %s, %s).', "group", poll.topic,
                    part.partition, unread_until);
                EXIT;
            ELSIF unread_from IS NOT NULL THEN
                last_found := unread_from - 1;
                SELECT count(*) INTO rows_found FROM record_rows r WHERE r.log = part.id AND r.record_offset BETWEEN place AND last_found;
            END IF;
            producers := NULL;
            IF (facts ->> 'last_aborted')::bigint >= place THEN
                SELECT array_agg(a.producer ORDER BY a.first_offset), array_agg(a.first_offset ORDER BY a.first_offset),
                    array_agg(a.last_offset ORDER BY a.first_offset) INTO producers, firsts, lasts
                    FROM aborted_in(of_topic, part.partition, place, last_found + 1) a;
            END IF;
            next_aborted := 1;
            aborted := '{}';
            batch_until := place;
            is_aborted := false;
            FOR one IN SELECT r.* FROM record_rows r WHERE r.log = part.id AND r.record_offset BETWEEN place AND last_found
                ORDER BY r.record_offset
            LOOP
                rows_found := rows_found - 1;
                place := one.record_offset + 1;
                IF producers IS NOT NULL AND one.record_offset >= batch_until THEN
                    -- Where the last transaction of each producer ends that was aborted and has begun by then.
                    WHILE firsts[next_aborted] <= one.record_offset LOOP
                        aborted := aborted || jsonb_build_object(producers[next_aborted], lasts[next_aborted]);
                        next_aborted := next_aborted + 1;
                    END LOOP;
                    SELECT b.next_offset, (aborted ->> transactional_producer(b.header)::text)::bigint >= one.record_offset
                        INTO batch_until, is_aborted FROM batches b
                        WHERE b.log = part.id AND b.base_offset <= one.record_offset ORDER BY b.base_offset DESC LIMIT 1;
                END IF;
                CONTINUE WHEN is_aborted;
                partition := part.partition;
                "offset" := one.record_offset;
                "timestamp" := date_of(coalesce(one.appended_ms, one.timestamp_ms));
                key := one.key;
                value := one.value;
                headers := one.headers;
                RETURN NEXT;
                wanted := wanted - 1;
                EXIT WHEN wanted = 0;
            END LOOP;
            IF wanted > 0 THEN
                IF rows_found > 0 THEN
                    RAISE EXCEPTION 'records were replaced by compaction while they were read' USING ERRCODE = '40001',
                        HINT = 'Try the transaction again.';
                END IF;
                place := last_found + 1;
            END IF;
        END LOOP;
        UPDATE inbox i SET polled = place, polled_by = pg_current_xact_id() WHERE i.log = part.id AND i.reader = "group";
    END LOOP;
    IF refused IS NOT NULL AND wanted = max_records THEN
        RAISE EXCEPTION '%', refused USING ERRCODE = '0A000', HINT = remedy;
    END IF;
END $$;

-- Notes that a group of readers is done with what the caller's transaction has polled, or that it goes on at an offset of a partition:
-- with the transaction, or not at all. Returns of how many partitions.
CREATE FUNCTION commit("group" text, topic text, partition integer DEFAULT NULL, next_offset bigint DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    of_topic uuid;
    of_log bigint;
    count integer;
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
        GET DIAGNOSTICS count = ROW_COUNT;
        RETURN count;
    END IF;
    SELECT l.id INTO of_log FROM logs l WHERE l.topic = of_topic AND l.partition = commit.partition;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no partition % of topic %', commit.partition, commit.topic USING ERRCODE = '22023';
    END IF;
    INSERT INTO inbox VALUES (of_log, "group", commit.next_offset)
        ON CONFLICT (log, reader) DO UPDATE SET next_offset = excluded.next_offset, polled = NULL, polled_by = NULL;
    RETURN 1;
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
