//! Completes the due index of a store that an earlier release has written, or that has kept offsets longer: looks once at
//! all that may become due, and puts the entries. It may be cut off, and is then repeated.

use std::sync::Arc;
use std::time::Instant;

use rules::commands::{Command, DueCommand, GroupCommand};
use rules::documents::{
    DocumentKind, DueComplete, DueKey, DueSubject, GroupDocument, ProducerDocument, TopicDocument,
};
use tracing::info;

use super::{PAGE, Run, offsets, put, rest_after};
use crate::broker::Broker;
use crate::engines::StoreError;

/// Makes sure that nothing is missing in the index.
pub(super) async fn ensure(broker: &Broker) -> Result<(), StoreError> {
    let run = Run { broker, now_ms: broker.clock.now_ms() };
    let wanted = DueComplete { offsets_retention_ms: offsets::retention_ms(broker) };
    let known = broker.store.get_one::<DueComplete>(&()).await?;
    match known.as_deref() {
        Some(known) if *known == wanted => return Ok(()),
        // With a longer time the entries are early.
        Some(known) if known.offsets_retention_ms < wanted.offsets_retention_ms => {}
        Some(_) => list_groups(run).await?,
        None => {
            // Each part fails by itself.
            let topics = list_topics(run).await;
            let producers = list_producers(run).await;
            topics.and(producers).and(list_groups(run).await)?;
            info!("the store has an index of what is due");
        }
    }
    run.commit(vec![Command::Due(DueCommand::Complete(wanted))]).await.map(drop)
}

async fn list_topics(run: Run<'_>) -> Result<(), StoreError> {
    list::<TopicDocument>(run, |name, _| put(DueKey::at_once(DueSubject::Topic(name)))).await
}

async fn list_producers(run: Run<'_>) -> Result<(), StoreError> {
    let entry = |key, producer: &ProducerDocument| {
        let at_ms = DueKey::time(producer.expires_ms(), run.now_ms);
        put(DueKey { at_ms, subject: DueSubject::Producer(key) })
    };
    list::<ProducerDocument>(run, entry).await
}

async fn list_groups(run: Run<'_>) -> Result<(), StoreError> {
    let index = |group: Arc<str>, _: &GroupDocument| Command::Group { group, command: GroupCommand::Index };
    list::<GroupDocument>(run, index).await
}

/// Commits a command for each document of a kind, page by page.
async fn list<T: DocumentKind>(
    run: Run<'_>,
    command: impl Fn(T::Key, &T) -> Command,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let started = Instant::now();
        let page = run.broker.store.page::<T>(after.take(), PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(T::key(last));
        let commands = page.into_iter().map(|(key, document)| command(key, &document)).collect();
        run.commit(commands).await?;
        rest_after(started).await;
    }
}
