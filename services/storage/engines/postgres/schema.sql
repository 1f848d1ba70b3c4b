-- The tables of a store, version 1. The broker makes them in a schema of their own; the search path names it alone.
--
-- Times are in ms since the Unix epoch; -1 stands for none.

-- What the store is: its version, and what else there is once.
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);

-- Which of all copies of a store this is: one that was restored is another, whatever it was restored from, and one whose server has
-- given way to a standby. Nobody can tell a server that starts again from one that was restored from a disk's snapshot.
CREATE FUNCTION this_store() RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT RETURN
    (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' || 'meta'::regclass::oid || ':'
    || CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
    || ':' || extract(epoch FROM pg_postmaster_start_time());

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
