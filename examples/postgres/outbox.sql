-- An order and its message, in one transaction.

CREATE TABLE IF NOT EXISTS orders_sql (id bigint PRIMARY KEY, item text NOT NULL);

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
