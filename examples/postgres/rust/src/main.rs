//! An order and its message, in one transaction.

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

    let mut transaction = client.transaction()?;
    let message = add(&mut transaction, 1, "a lamp")?;
    transaction.commit()?; // the order and its message are there

    let mut transaction = client.transaction()?;
    add(&mut transaction, 2, "a regret")?;
    transaction.rollback()?; // neither is

    loop {
        let position = r#"SELECT partition, "offset" FROM yagura.position($1)"#;
        if let Some(place) = client.query_opt(position, &[&message])? {
            let (partition, offset): (i32, i64) = (place.get(0), place.get(1));
            println!("order 1 is at offset {offset} of partition {partition}");
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
}
