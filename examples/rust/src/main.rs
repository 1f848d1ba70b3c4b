//! Produces three records with keys, and consumes them in a group.

use std::env;
use std::error::Error;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message};

const TOPIC: &str = "greetings-rust";
const RECORDS: [(&str, &str); 3] =
    [("alice", "hello from rust"), ("bob", "hello from rust"), ("alice", "goodbye from rust")];

async fn produce(bootstrap: &str) -> Result<(), Box<dyn Error>> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("message.timeout.ms", "10000") // how long it looks for the broker; otherwise 5 minutes
        .create()?;
    for (key, value) in RECORDS {
        let record = FutureRecord::to(TOPIC).key(key).payload(value);
        // Waits until the record is stored. The duration is for a full queue, which three records do not make.
        producer.send(record, Duration::ZERO).await.map_err(|(error, _)| error)?;
    }
    Ok(())
}

async fn consume(bootstrap: &str, wanted: usize) -> Result<(), Box<dyn Error>> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "readers-rust")
        .set("auto.offset.reset", "earliest") // where a group begins that has committed nothing
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    for _ in 0..wanted {
        let record = consumer.recv().await?;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        println!("{}: {}", text(record.key()), text(record.payload()));
    }
    // After the work, so that a crash repeats records and loses none.
    consumer.commit_consumer_state(CommitMode::Sync)?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = env::var("BOOTSTRAP").unwrap_or_else(|_| "localhost:9092".to_owned());
    produce(&bootstrap).await?;
    consume(&bootstrap, RECORDS.len()).await
}
