-- An order and its message, in one transaction; and a reader of such messages, which ships each order once.

CREATE TABLE IF NOT EXISTS orders_sql (id bigint PRIMARY KEY, item text NOT NULL);
CREATE TABLE IF NOT EXISTS shipments_sql (id bigint PRIMARY KEY);

BEGIN;
INSERT INTO orders_sql VALUES (1, 'a lamp');
SELECT yagura.produce('orders-sql', jsonb_build_object('id', id, 'item', item)::text, key => id::text) AS message
    FROM orders_sql WHERE id = 1 \gset
COMMIT;

-- Of what is rolled back, nothing is sent.
BEGIN;
INSERT INTO orders_sql VALUES (2, 'a regret');
SELECT yagura.produce('orders-sql', '{"id": 2, "item": "a regret"}', key => '2') AS rolled_back \gset
ROLLBACK;

-- The message has a place once a broker has put it into the log.
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM yagura.outbox WHERE topic = 'orders-sql');
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\pset tuples_only on
\pset format unaligned
SELECT 'order 1 is at offset ' || "offset" || ' of partition ' || partition FROM yagura.position(:message);

-- What is read, and how far the reader has come: both are committed, or neither is.
BEGIN;
INSERT INTO shipments_sql SELECT (convert_from(value, 'UTF8')::jsonb ->> 'id')::bigint FROM yagura.poll('shipping-sql', 'orders-sql');
SELECT yagura.commit('shipping-sql', 'orders-sql') AS done \gset
COMMIT;
SELECT 'order ' || id || ' is shipped' FROM shipments_sql;
