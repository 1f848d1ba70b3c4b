"""An order and its message, in one transaction; and a reader of such messages, which ships each order once."""

import json
import os
import time

import psycopg

DATABASE_URL = os.environ.get("DATABASE_URL", "postgres://localhost/shop")
TOPIC = "orders-python"


def add(connection, number, item):
    """Adds an order, and tells of it."""
    connection.execute("INSERT INTO orders_python VALUES (%s, %s)", (number, item))
    message = json.dumps({"id": number, "item": item})
    sent = connection.execute("SELECT yagura.produce(%s, %s, key => %s)", (TOPIC, message, str(number)))
    return sent.fetchone()[0]


with psycopg.connect(DATABASE_URL) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS orders_python (id bigint PRIMARY KEY, item text NOT NULL)")
    connection.execute("CREATE TABLE IF NOT EXISTS shipments_python (id bigint PRIMARY KEY)")
    connection.commit()

    message = add(connection, 1, "a lamp")
    connection.commit()  # the order and its message are there

    add(connection, 2, "a regret")
    connection.rollback()  # neither is

    connection.autocommit = True
    while (place := connection.execute('SELECT partition, "offset" FROM yagura.position(%s)', (message,)).fetchone()) is None:
        time.sleep(0.1)
    print(f"order 1 is at offset {place[1]} of partition {place[0]}")

    with connection.transaction():  # what is read and how far the reader has come, or neither
        for (value,) in connection.execute("SELECT value FROM yagura.poll('shipping-python', %s)", (TOPIC,)).fetchall():
            order = json.loads(value)["id"]
            connection.execute("INSERT INTO shipments_python VALUES (%s)", (order,))
            print(f"order {order} is shipped")
        connection.execute("SELECT yagura.commit('shipping-python', %s)", (TOPIC,))
