//! Tests of what is this engine's own; what all engines do is in the model tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{TopicId, TopicPartition};
use rules::commands::{
    Append, Applied, Command, EndTransaction, InitTransaction, NodeCommand, Outcome, ProducerIdAndEpoch,
    RenewNode, TransactionCommand,
};
use rules::documents::{DocumentKind, NodeFacts, PartitionDocument, TransactionDocument};
use uuid::Uuid;

use super::calls::{Call, Queue, Taken};
use super::session::Session;
use super::testing::new_store;
use super::{Postgres, verify};
use crate::engines::model_tests::small_settings;
use crate::engines::outbox::{Message, Move};
use crate::engines::{Engine, StoreError, Subject, model_groups};

async fn open(place: &str) -> Postgres {
    Postgres::open(place, &small_settings()).await.unwrap()
}

async fn topic(engine: &Postgres, name: &str, number: u128, partitions: i32) -> TopicId {
    let id = TopicId(Uuid::from_u128(number));
    let create = Command::CreateTopic { name: Arc::from(name), id, partitions, configs: BTreeMap::new() };
    engine.commit(vec![create], Vec::new()).await.unwrap().remove(0).unwrap();
    id
}

fn append(topic: TopicId, partition: i32, value: &[u8]) -> Command {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NewRecord { value: Some(value), ..NewRecord::default() });
    let batch = Batch::check(builder.build().unwrap()).unwrap();
    Command::Append(Append::new(TopicPartition { topic, partition }, &batch, 1_000))
}

fn offset(outcomes: Result<Vec<Outcome>, StoreError>) -> i64 {
    match outcomes.unwrap().remove(0) {
        Ok(Applied::Appended { base_offset, .. }) => base_offset,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_sent_at_once_keeps_its_order_in_each_partition() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 8).await;
    for round in 0..5 {
        let sent: Vec<_> = (0..400)
            .map(|number: i32| engine.commit(vec![append(id, number % 8, b"value")], Vec::new()))
            .collect();
        let offsets: Vec<i64> = join_all(sent).await.into_iter().map(offset).collect();
        let expected: Vec<i64> = (0..400).map(|number| round * 50 + number / 8).collect();
        assert_eq!(offsets, expected, "round {round}");
    }
    engine.close().await.unwrap();
    let report = verify(&place, &mut |_, _| {}).await.unwrap();
    assert_eq!((report.batches, report.faults), (2_000, Vec::new()));
}

#[tokio::test]
async fn large_batches_are_copied_with_their_headers_settled() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 2).await;
    let sent = (0..20).map(|number| engine.commit(vec![append(id, number % 2, &[7; 100_000])], Vec::new()));
    let offsets: Vec<i64> = join_all(sent).await.into_iter().map(offset).collect();
    assert_eq!(offsets, (0..20).map(|number| number / 2).collect::<Vec<i64>>());
    engine.close().await.unwrap();
    let report = verify(&place, &mut |_, _| {}).await.unwrap();
    assert_eq!((report.batches, report.faults), (20, Vec::new()));
}

#[tokio::test]
async fn brokers_that_share_a_store_tell_each_other_of_changes() {
    let Some(place) = new_store() else { return };
    let (one, other) = (open(&place).await, open(&place).await);
    let id = topic(&one, "t", 1, 2).await;
    let at = |partition| TopicPartition { topic: id, partition };
    let watch = other.watch(&[Subject::Partition(at(0)), Subject::Partition(at(1))]);
    let (feed, version) = (other.sharing().unwrap().changes, other.topics_version());
    one.has_others(true);
    assert_eq!(offset(one.commit(vec![append(id, 0, &[7; 100])], Vec::new()).await), 0);
    // Those who have just come are told to look at everything.
    while watch.changed().await < 100 {}
    assert!(watch.take_changed().contains(&at(0)));
    // What one has written, the other finds.
    assert_eq!(offset(other.commit(vec![append(id, 0, &[7; 100])], Vec::new()).await), 1);
    let join = model_groups::join_as("g", "m");
    one.commit(vec![join], Vec::new()).await.unwrap();
    while !feed.changed().await.groups.contains("g") {}
    topic(&one, "u", 2, 1).await;
    while other.topics_version() == version {
        tokio::task::yield_now().await;
    }
    // The clocks agree, whatever those of the machines show.
    let clocks = [&one, &other].map(|engine| engine.sharing().unwrap().clock.now_ms());
    assert!(clocks[0].abs_diff(clocks[1]) < 60_000, "{clocks:?}");
    one.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn brokers_that_join_at_once_get_ids_of_their_own() {
    let Some(place) = new_store() else { return };
    let engines = join_all((0..5).map(|_| open(&place))).await;
    let renew = |number: u128| {
        let incarnation = Uuid::from_u128(number);
        let (addresses, release) = (BTreeMap::new(), Arc::from("1"));
        let (cluster_id, rack, session, level) = (None, None, None, 1);
        let facts = NodeFacts { incarnation, cluster_id, addresses, rack, release, level, session };
        let ended = Vec::new();
        let renew = RenewNode { node: None, had: None, facts, ended, lease_ms: 10_000, now_ms: 7 };
        vec![Command::Node(NodeCommand::Renew(Box::new(renew)))]
    };
    let renewed = engines.iter().zip(1..).map(|(engine, number)| engine.commit(renew(number), Vec::new()));
    let mut ids: Vec<i32> = Vec::new();
    for outcomes in join_all(renewed).await {
        match outcomes.unwrap().remove(0).unwrap() {
            Applied::Nodes { own, .. } => ids.push(own.0),
            other => panic!("{other:?}"),
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    for engine in engines {
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_broker_that_may_have_missed_something_wakes_all_who_wait() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 1).await;
    let at = TopicPartition { topic: id, partition: 0 };
    let watch = engine.watch(&[Subject::Partition(at)]);
    let listening = engine.shared.news.session().unwrap();
    let process: i32 = listening.query("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0);
    run(&place, &format!("SELECT pg_terminate_backend({process})")).await;
    watch.changed().await;
    assert!(watch.take_changed().contains(&at));
    while engine.look(Vec::new()).await.is_err() {
        tokio::task::yield_now().await;
    }
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_restored_is_found_out_once() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let is_another = async || engine.look(Vec::new()).await.unwrap().is_another;
    assert!(!is_another().await);
    run(&place, "UPDATE meta SET value = 'another' WHERE name = 'instance'").await;
    assert!(is_another().await);
    engine.accept().await.unwrap();
    assert!(!is_another().await);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn brokers_find_out_whose_connection_has_ended() {
    let Some(place) = new_store() else { return };
    let (one, other) = (open(&place).await, open(&place).await);
    let session = async |engine: &Postgres| engine.look(Vec::new()).await.unwrap().session.unwrap();
    let (own, others) = (session(&one).await, session(&other).await);
    assert_eq!(session(&one).await, own);
    let server = own.rsplit('/').next().unwrap();
    let gone: Arc<str> = Arc::from(format!("7/1.5/{server}"));
    // Of those that another server had nobody knows whether their brokers live: all of them have ended.
    let unknown = ["7/1.5/1.5", "7/1.5", "nonsense", ""].map(Arc::from);
    let sessions =
        [vec![Arc::clone(&own), Arc::clone(&others), Arc::clone(&gone)], unknown.to_vec()].concat();
    assert_eq!(one.look(sessions.clone()).await.unwrap().ended, [gone]);
    other.close().await.unwrap();
    while !one.look(sessions.clone()).await.unwrap().ended.contains(&others) {
        tokio::task::yield_now().await;
    }
    one.close().await.unwrap();
}

#[tokio::test]
async fn those_who_come_at_once_make_the_tables_once() {
    let Some(place) = new_store() else { return };
    let settings = small_settings();
    let opened = join_all((0..10).map(|_| Postgres::open(&place, &settings))).await;
    for engine in opened {
        engine.unwrap().close().await.unwrap();
    }
}

/// A connection to a store's schema.
async fn connect(place: &str) -> Session {
    let target = super::url::Target::parse(place).unwrap();
    super::connect::Server::new(target).unwrap().connect().await.unwrap()
}

/// Runs a statement in a store's schema.
async fn run(place: &str, sql: &str) {
    connect(place).await.run(sql).await.unwrap();
}

#[tokio::test]
async fn what_is_no_store_or_a_newer_one_is_refused() {
    let Some(place) = new_store() else { return };
    open(&place).await.close().await.unwrap();
    run(&place, "UPDATE meta SET value = '3' WHERE name = 'version'").await;
    let refused = Postgres::open(&place, &small_settings()).await.err().unwrap();
    assert!(refused.0.contains("newer release") && refused.0.contains("upgrade Yagura"), "{refused}");
    run(&place, "UPDATE meta SET value = '1' WHERE name = 'version'").await;
    let refused = Postgres::open(&place, &small_settings()).await.err().unwrap();
    assert!(refused.0.contains("before the first release"), "{refused}");
    let Some(other) = new_store() else { return };
    let schema = other.split("schema=").nth(1).unwrap().split('&').next().unwrap();
    run(&other, &format!("CREATE SCHEMA {schema}; CREATE TABLE orders (id int)")).await;
    let refused = Postgres::open(&other, &small_settings()).await.err().unwrap();
    assert!(refused.0.contains("tables of another program"), "{refused}");
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_with_the_remedy() {
    let Some(place) = new_store() else { return };
    let fault = async |place: &str| Postgres::open(place, &small_settings()).await.err().unwrap().0;
    let database = fault(&place.replace("/postgres?", "/nothing?")).await;
    assert!(database.contains("\"nothing\" does not exist; create the database"), "{database}");
    let nobody = fault("yagura@127.0.0.1:9/postgres").await;
    assert!(nobody.contains("127.0.0.1:9 cannot be used") && nobody.contains("refused"), "{nobody}");
    let role = fault(&place.replace("yagura@", "nobody_known@")).await;
    assert!(role.contains("role \"nobody_known\" does not exist"), "{role}");
    run(&place, "DROP ROLE IF EXISTS lowly; CREATE ROLE lowly LOGIN").await;
    let rights = fault(&place.replace("yagura@", "lowly@")).await;
    assert!(rights.contains("permission denied") && rights.contains("grant the role CREATE"), "{rights}");
}

#[tokio::test]
async fn connections_that_are_cut_are_opened_again() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 1).await;
    let at = TopicPartition { topic: id, partition: 0 };
    for number in 0..5 {
        assert_eq!(offset(engine.commit(vec![append(id, 0, b"v")], Vec::new()).await), number);
        run(
            &place,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()",
        )
        .await;
        let read = engine.get(vec![PartitionDocument::key(&at)]).await.unwrap().remove(0).unwrap();
        assert_eq!(read.get::<PartitionDocument>().unwrap().end, number + 1);
    }
    engine.close().await.unwrap();
    assert_eq!(verify(&place, &mut |_, _| {}).await.unwrap().faults, Vec::<String>::new());
}

/// Appends messages of one partition.
fn moved(topic: TopicId, messages: &[Message]) -> Move {
    let Command::Append(append) = append(topic, 0, messages[0].value.as_ref().unwrap()) else {
        unreachable!()
    };
    Move { ids: messages.iter().map(|message| message.id).collect(), topic: Arc::from("t"), append }
}

#[tokio::test]
async fn a_message_is_taken_once() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 1).await;
    let outbox = engine.outbox().unwrap();
    run(&place, "SELECT produce('t', 'v')").await;
    let messages = outbox.page(false).await.unwrap();
    assert_eq!(offset(outbox.settle(vec![moved(id, &messages)]).await), 0);
    // As a broker would do it that has read the same and been slower.
    let refused = outbox.settle(vec![moved(id, &messages)]).await.unwrap_err();
    assert!(refused.0.contains("somebody else has taken messages"), "{refused}");
    assert_eq!(offset(engine.commit(vec![append(id, 0, b"next")], Vec::new()).await), 1);
    assert_eq!(outbox.page(false).await.unwrap(), []);
    engine.close().await.unwrap();
    assert_eq!(verify(&place, &mut |_, _| {}).await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn messages_are_found_once_their_transactions_are_committed() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 1).await;
    let outbox = engine.outbox().unwrap();
    let next = async || {
        let page = outbox.page(false).await.unwrap();
        if !page.is_empty() {
            offset(outbox.settle(vec![moved(id, &page)]).await);
        }
        page.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    let (first, second) = (connect(&place).await, connect(&place).await);
    first.run("BEGIN; SELECT produce('t', 'first')").await.unwrap();
    second.run("BEGIN; SELECT produce('t', 'second')").await.unwrap();
    run(&place, "SELECT produce('t', 'third')").await;
    assert_eq!((next().await, next().await), (vec![3], vec![]));
    run(&place, "SELECT produce('t', 'fourth')").await;
    first.run("COMMIT").await.unwrap();
    assert_eq!((next().await, next().await), (vec![1, 4], vec![]));
    second.run("ROLLBACK").await.unwrap();
    assert!(next().await.is_empty());
    // Nothing is remembered by a connection that is lost, and nothing is lost with it.
    run(&place, "SELECT produce('t', 'fifth')").await;
    outbox.begin_anew().await;
    assert_eq!((next().await, next().await), (vec![5], vec![]));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn ids_that_do_not_fit_are_refused_for_good() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let id = topic(&engine, "t", 1, 1).await;
    let resume = |group: &str| Command::Group {
        group: Arc::from(group),
        command: rules::commands::GroupCommand::Resume { now_ms: 0 },
    };
    let group = "g".repeat(5_000);
    let outcomes = engine.commit(vec![resume("short"), resume(&group), append(id, 0, b"v")], Vec::new());
    let outcomes = outcomes.await.unwrap();
    let refused = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refused.error, kernel::ErrorCode::InvalidRequest);
    assert!(refused.message.contains("2600 bytes"), "{}", refused.message);
    assert!(matches!(outcomes[2], Ok(Applied::Appended { base_offset: 0, .. })), "{outcomes:?}");
    engine.close().await.unwrap();
}

/// The values that are appended by the next batch, in order, and what it keeps others from.
async fn next_batch(queue: &Queue) -> (Vec<i64>, Taken) {
    let next = tokio::time::timeout(Duration::from_secs(60), queue.next(usize::MAX)).await;
    let (calls, taken) = next.expect("nobody was woken").expect("the queue is open").into_parts();
    let time = |call: &Call| match &call.commands[..] {
        [Command::Append(append)] => append.now_ms,
        other => panic!("{other:?}"),
    };
    (calls.iter().map(time).collect(), taken)
}

#[tokio::test]
async fn those_behind_others_come_once_these_are_done() {
    let (queue, topic) = (Queue::default(), TopicId(Uuid::from_u128(1)));
    let push = |partition: i32, number: i64| {
        let Command::Append(append) = append(topic, partition, b"v") else { unreachable!() };
        let append = Append { now_ms: number, ..append };
        queue.push(Call::new(vec![Command::Append(append)], Vec::new(), tokio::sync::oneshot::channel().0));
    };
    push(0, 1);
    let (first, of_first) = next_batch(&queue).await;
    (2..1_000).for_each(|number| push(0, number));
    push(1, 1_000);
    let (beside, of_beside) = next_batch(&queue).await;
    assert_eq!((first, beside), (vec![1], vec![1_000]));
    push(1, 1_001);
    queue.done(&of_first, Vec::new());
    let (behind, of_behind) = next_batch(&queue).await;
    assert_eq!(behind, (2..1_000).collect::<Vec<_>>());
    queue.done(&of_beside, Vec::new());
    let (last, of_last) = next_batch(&queue).await;
    assert_eq!(last, [1_001]);
    queue.done(&of_last, Vec::new());
    queue.done(&of_behind, Vec::new());
    queue.close();
    assert!(queue.next(usize::MAX).await.is_none(), "nothing is left");
}

#[tokio::test]
async fn messages_that_are_left_hide_none_behind_them() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let outbox = engine.outbox().unwrap();
    // More than are read from one snapshot, if all are moved.
    let count = 70_000;
    run(&place, &format!("SELECT produce_many('t', array_agg(n::text)) FROM generate_series(1, {count}) n"))
        .await;
    let mut seen = 0;
    loop {
        let page = outbox.page(seen > 0).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert_eq!(page[0].id, seen + 1);
        seen += page.len() as i64;
    }
    assert_eq!(seen, count);
    engine.close().await.unwrap();
}

/// Begins a transaction with something in it; its producer.
async fn transaction(engine: &Postgres, id: &Arc<str>, at: TopicPartition) -> ProducerIdAndEpoch {
    let init = InitTransaction {
        producer: None,
        timeout_ms: 60_000,
        version: 1,
        seed: 7,
        now_ms: 1_000,
        leader_epoch: 0,
    };
    let run = async |command| {
        let command = Command::Transaction { id: Arc::clone(id), command };
        engine.commit(vec![command], Vec::new()).await.unwrap().remove(0).unwrap()
    };
    let Applied::TransactionalProducer(producer) = run(TransactionCommand::Init(init)).await else {
        panic!("no producer")
    };
    run(TransactionCommand::AddPartitions { producer, partitions: vec![at], now_ms: 1_000 }).await;
    producer
}

#[tokio::test]
async fn the_end_of_a_transaction_is_called_off_if_nobody_waits_for_it() {
    let Some(place) = new_store() else { return };
    let engine = open(&place).await;
    let (topic, id) = (topic(&engine, "t", 1, 1).await, Arc::from("id"));
    let producer = transaction(&engine, &id, TopicPartition { topic, partition: 0 }).await;
    let end = || {
        let end = EndTransaction { producer, commit: true, version: 1, now_ms: 2_000, leader_epoch: 0 };
        engine.commit(
            vec![Command::Transaction { id: Arc::clone(&id), command: TransactionCommand::End(end) }],
            Vec::new(),
        )
    };
    let is_ongoing = async || {
        // What comes after it in the queue is done after it.
        drop(engine.commit(vec![append(topic, 0, b"v")], Vec::new()).await.unwrap());
        let found = engine.get(vec![TransactionDocument::key(&id)]).await.unwrap().remove(0).unwrap();
        found.get::<TransactionDocument>().unwrap().is_ongoing()
    };
    drop(end());
    assert!(is_ongoing().await, "it was called off in the queue");
    // Somebody else has the partition, until it is called off.
    let other = connect(&place).await;
    other.run("BEGIN; SELECT FROM logs FOR NO KEY UPDATE").await.unwrap();
    let waiting = end();
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let looking = connect(&place).await;
    while looking.query(waits, &[]).await.unwrap()[0].get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(waiting);
    other.run("ROLLBACK").await.unwrap();
    assert!(is_ongoing().await, "it was called off under its locks");
    end().await.unwrap().remove(0).unwrap();
    assert!(!is_ongoing().await);
    engine.close().await.unwrap();
}
