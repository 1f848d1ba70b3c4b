//! An order and its message, in one transaction; and a reader of such messages, which ships each order once.

use std::thread::sleep;
use std::time::Duration;

use postgres::{Client, Error, NoTls, Transaction};

const TOPIC: &str = "orders-rust";

/// Adds an order, and tells of it.
fn add(transaction: &mut Transaction<'_>, id: i64, item: &str) -> Result<i64, Error> {
    transaction.execute("INSERT INTO orders_rust VALUES ($1, $2)", &[&id, &item])?;
    let message = format!(r#"{{"id": {id}, "item": "{item}"}}"#);
    let produce = "SELECT yagura.produce($1, $2, key => $3)";
    let sent = transaction.query_one(produce, &[&TOPIC, &message, &id.to_string()])?;
    Ok(sent.get(0))
}

fn main() -> Result<(), Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "postgres://localhost/shop".to_owned());
    let mut client = Client::connect(&url, NoTls)?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS orders_rust (id bigint PRIMARY KEY, item text NOT NULL)")?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS shipments_rust (id bigint PRIMARY KEY)")?;

    let mut transaction = client.transaction()?;
    let message = add(&mut transaction, 1, "a lamp")?;
    transaction.commit()?; // the order and its message are there

    let mut transaction = client.transaction()?;
    add(&mut transaction, 2, "a regret")?;
    transaction.rollback()?; // neither is

    while !print_place(&mut client, message)? {
        sleep(Duration::from_millis(100));
    }
    ship(&mut client)
}

/// Whether the message is in the log.
fn print_place(client: &mut Client, message: i64) -> Result<bool, Error> {
    let position = r#"SELECT partition, "offset" FROM yagura.position($1)"#;
    let Some(place) = client.query_opt(position, &[&message])? else { return Ok(false) };
    let (partition, offset): (i32, i64) = (place.get(0), place.get(1));
    println!("order 1 is at offset {offset} of partition {partition}");
    Ok(true)
}

/// Reads what is new, and keeps it.
fn ship(client: &mut Client) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    let poll = "INSERT INTO shipments_rust SELECT (convert_from(value, 'UTF8')::jsonb ->> 'id')::bigint
        FROM yagura.poll('shipping-rust', $1) RETURNING id";
    for order in transaction.query(poll, &[&TOPIC])? {
        println!("order {} is shipped", order.get::<_, i64>(0));
    }
    transaction.execute("SELECT yagura.commit('shipping-rust', $1)", &[&TOPIC])?;
    transaction.commit() // what is read and how far the reader has come, or neither
}
