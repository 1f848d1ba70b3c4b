//! Crashes and migrations, against the memory engine: what was acknowledged is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::metrics::Page;
use kernel::records::{Batch, BatchBuilder, Codec, NO_TIMESTAMP, NewRecord};
use kernel::records_later::RecordsLater;
use kernel::units::Span;
use kernel::{TopicId, TopicPartition};
use rules::commands::{Append, Applied, Clean, CleanedBatch, CleanedRun, Command, Payload};
use rules::documents::{
    AnyKind, Counters, Document, DocumentKind, KINDS, Key, PartitionDocument, StoreLevel,
};
use rusqlite::{Connection, params};

use super::index::{Span as BatchSpan, pack_entries, unpack_entries};
use super::logs::Log;
use super::open::connect;
use super::schema::{APPLICATION_ID, FORMAT, offset_of, pack};
use super::writer::{Job, ask};
use super::{Sqlite, verify};
use crate::engines::gaps::gap;
use crate::engines::memory::Memory;
use crate::engines::model_cleaning::clean;
use crate::engines::model_tests::{Dice, first_ids, same_everything, small_settings};
use crate::engines::resident::Times;
use crate::engines::{Engine, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, RetentionLimits};
use crate::settings::Settings;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("yagura-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a kill would leave: the files as they are while the writer is between two jobs.
async fn killed(engine: &Sqlite, from: &Path, to: &Path) {
    // The writer may still be folding after its last answer.
    let jobs = engine.jobs.lock().clone();
    ask(&jobs, |answer| Job::NoteGarbage { now_ms: 0, answer }).await.unwrap();
    std::fs::create_dir_all(to).unwrap();
    for file in ["y.db", "y.db-wal"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[tokio::test]
async fn a_killed_store_has_all_that_was_acknowledged() {
    let all = folder("killed");
    for seed in 1..=24 {
        let (mut dice, mut ids, model) = (Dice::seeded(seed), first_ids(), Memory::new());
        let home = all.join(seed.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let engine = Sqlite::open(&home.join("y.db"), &small_settings()).unwrap();
        for step in 0..70 {
            let commands: Vec<_> = (0..=dice.roll(4)).map(|_| dice.command(&mut ids, step)).collect();
            let expected = model.commit(commands.clone(), Vec::new()).await.unwrap();
            assert_eq!(engine.commit(commands, Vec::new()).await.unwrap(), expected);
            if dice.roll(3) == 0 {
                let partition = dice.partition(&ids);
                clean(&model, &engine, &mut dice, partition, &format!("seed {seed}, step {step}")).await;
            }
            if dice.roll(6) == 0 {
                let context = format!("seed {seed}, killed at step {step}");
                let copy = home.join(step.to_string());
                killed(&engine, &home, &copy).await;
                let again = Sqlite::open(&copy.join("y.db"), &small_settings()).unwrap();
                same_everything(&model, &again, &mut dice, &ids, &context).await;
                assert_eq!(faults(&copy), Vec::<String>::new(), "{context}: before it is closed");
                again.close().await.unwrap();
                assert_eq!(faults(&copy), Vec::<String>::new(), "{context}");
            }
        }
        engine.close().await.unwrap();
    }
    std::fs::remove_dir_all(&all).unwrap();
}

fn faults(folder: &Path) -> Vec<String> {
    verify(&folder.join("y.db"), &mut |_, _| {}).unwrap().faults
}

/// The schema of format 1.
const FORMAT_1: &str = "
    PRAGMA page_size=65536; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;
    CREATE TABLE documents (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, max_timestamp INTEGER NOT NULL,
        bytes INTEGER NOT NULL, data BLOB NOT NULL
    );
    CREATE TABLE garbage (
        number INTEGER NOT NULL, before_offset INTEGER NOT NULL, PRIMARY KEY (number, before_offset)
    ) WITHOUT ROWID;
    PRAGMA user_version=1;
";

/// Writes what the model has as an earlier release would have.
async fn write_format_1(model: &Memory, path: &Path) {
    let file = connect(path).unwrap();
    file.execute_batch(FORMAT_1).unwrap();
    file.execute_batch(&format!("PRAGMA application_id={APPLICATION_ID}")).unwrap();
    let counters = model.get(vec![Counters::key(&())]).await.unwrap().remove(0);
    let counters = counters.unwrap_or_else(|| Document::new::<Counters>(Counters::default()));
    let counters = with_fields(&counters, "\"next_partition_number\":1000");
    let put = |key: &Key, text: &str| {
        file.execute("INSERT INTO documents VALUES (?1, ?2)", [key.as_str(), text]).unwrap();
    };
    let level = StoreLevel::key(&());
    if let Some(document) = &model.get(vec![level.clone()]).await.unwrap()[0] {
        put(&level, &document.write().unwrap());
    }
    put(&Counters::key(&()), &counters);
    put(&Key::from_text("offset-index/g"), "{\"t\":[0,1]}");
    let mut number = 0;
    for prefix in KINDS.iter().map(AnyKind::key_prefix) {
        for (key, document) in model.scan(prefix, None, usize::MAX).await.unwrap() {
            let Some(at) = PartitionDocument::parse_key(&key) else {
                put(&key, &document.write().unwrap());
                continue;
            };
            // Numbers of deleted partitions were never used again.
            number += 3;
            put(&key, &with_fields(&document, &format!("\"number\":{number},\"bytes\":0")));
            write_batches(model, &file, at, number).await;
        }
    }
}

/// The JSON of a document with more fields, which later releases do not know.
fn with_fields(document: &Document, fields: &str) -> String {
    let json = document.write().unwrap();
    format!("{{{fields},{}", json.strip_prefix('{').unwrap())
}

async fn write_batches(model: &Memory, file: &Connection, partition: TopicPartition, number: u32) {
    let sizes = model.get(vec![PartitionDocument::key(&partition)]).await.unwrap();
    let log_start = sizes[0].as_ref().unwrap().get::<PartitionDocument>().unwrap().log_start;
    let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(log_start), usize::MAX);
    let ReadOutcome::Read { batches, .. } =
        model.read(vec![spec], ReadLimits::all_now(usize::MAX)).await.unwrap().remove(0)
    else {
        panic!("it exists")
    };
    for data in batches {
        let batch = Batch::check(data.clone()).unwrap();
        let row = params![
            pack(number, batch.base_offset()),
            batch.next_offset(),
            batch.max_timestamp(),
            data.len() as i64,
            &data[..]
        ];
        file.execute("INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
    }
}

#[tokio::test]
async fn a_store_of_format_1_is_migrated() {
    let all = folder("migrated");
    for seed in 1..=6 {
        let (mut dice, mut ids, model) = (Dice::seeded(seed), first_ids(), Memory::new());
        for step in 0..150 {
            let command = dice.command(&mut ids, step);
            drop(model.commit(vec![command], Vec::new()).await.unwrap());
        }
        let home = all.join(seed.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let path = home.join("y.db");
        write_format_1(&model, &path).await;
        let engine = Sqlite::open(&path, &small_settings()).unwrap();
        same_everything(&model, &engine, &mut dice, &ids, &format!("seed {seed}")).await;
        assert_eq!(faults(&home), Vec::<String>::new(), "seed {seed}");
        // The lock has followed to the new file.
        std::fs::remove_file(home.join("y.db-lock")).unwrap();
        let refused = Sqlite::open(&path, &small_settings()).err().unwrap();
        assert!(refused.0.contains("held by another process"), "{refused}");
        // The migrated store works as any other.
        for step in 150..200 {
            let commands = vec![dice.command(&mut ids, step)];
            let expected = model.commit(commands.clone(), Vec::new()).await.unwrap();
            assert_eq!(engine.commit(commands, Vec::new()).await.unwrap(), expected);
        }
        same_everything(&model, &engine, &mut dice, &ids, &format!("seed {seed}, later")).await;
        engine.close().await.unwrap();
        let is_left = |suffix| home.join(format!("y.db{suffix}")).exists();
        assert!(!is_left("-migrating") && !is_left("-format-1"), "seed {seed}");
    }
    std::fs::remove_dir_all(&all).unwrap();
}

#[tokio::test]
async fn a_store_of_format_2_is_used_as_it_is() {
    let home = folder("format-2");
    let path = home.join("y.db");
    let (mut dice, mut ids, model) = (Dice::seeded(3), first_ids(), Memory::new());
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    for step in 0..150 {
        let commands = vec![dice.command(&mut ids, step)];
        drop(model.commit(commands.clone(), Vec::new()).await.unwrap());
        engine.commit(commands, Vec::new()).await.unwrap();
    }
    engine.close().await.unwrap();
    let file = Connection::open(&path).unwrap();
    let back = "UPDATE documents SET value = (SELECT value FROM whole WHERE whole.key = documents.key);
         DROP VIEW whole; DROP TABLE texts; ALTER TABLE spans DROP COLUMN undated_ms; PRAGMA user_version=2";
    file.execute_batch(back).unwrap();
    drop(file);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    same_everything(&model, &engine, &mut dice, &ids, "format 2").await;
    engine.close().await.unwrap();
    assert_eq!(
        Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)),
        Ok(FORMAT)
    );
    std::fs::remove_dir_all(&home).unwrap();
}

/// As earlier releases stored it: nobody knows when it was appended.
#[tokio::test]
async fn a_batch_of_unknown_age_expires_with_those_after_it() {
    let home = folder("unknown-age");
    let path = home.join("y.db");
    let at = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    let configs = [("retention.ms".to_owned(), "500".to_owned())].into();
    let create = Command::CreateTopic { name: Arc::from("orders"), id: at.topic, partitions: 1, configs };
    let append = |timestamp| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { timestamp, value: Some(b"v"), ..NewRecord::default() });
        let batch = Batch::check(builder.build().unwrap()).unwrap();
        Command::Append(Append::new(at, &batch, 1_000))
    };
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    engine.commit(vec![create, append(NO_TIMESTAMP)], Vec::new()).await.unwrap();
    engine.close().await.unwrap();
    let file = Connection::open(&path).unwrap();
    let log = Log::load(&file, at).unwrap().unwrap();
    assert_eq!(log.tail()[0].times, Times::read(-1, 1_000));
    let unknown = BatchSpan { times: Times::default(), ..log.tail()[0] };
    file.execute("UPDATE logs SET tail = ?1", [pack_entries(0, &[unknown])]).unwrap();
    drop(file);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let limits = RetentionLimits { retention_ms: Some(500), retention_bytes: None };
    let look = async |now_ms| {
        let looks = engine.retention(vec![(at, limits)], now_ms).await.unwrap();
        let look = looks.into_iter().next().unwrap().unwrap().unwrap();
        (look.log_start, look.next_ms)
    };
    assert_eq!(look(1_000_000).await, (None, Some(1_000_501)), "it is looked at again");
    engine.commit(vec![append(2_000)], Vec::new()).await.unwrap();
    assert_eq!(look(2_500).await, (None, Some(2_501)));
    assert_eq!(look(2_501).await, (Some(2), None));
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

/// Many batches of unknown age, in blocks and in the tail: the oldest go by size, whatever their topic says of age.
#[tokio::test]
async fn batches_of_unknown_age_expire_by_size() {
    let home = folder("unknown-age-by-size");
    let path = home.join("y.db");
    let at = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    let (name, configs) = (Arc::from("orders"), BTreeMap::new());
    let create = Command::CreateTopic { name, id: at.topic, partitions: 1, configs };
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NewRecord { timestamp: NO_TIMESTAMP, value: Some(b"v"), ..NewRecord::default() });
    let batch = Batch::check(builder.build().unwrap()).unwrap();
    let each = batch.bytes().len() as i64;
    let append = || Command::Append(Append::new(at, &batch, 1_000));
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let commands = std::iter::once(create).chain((0..40).map(|_| append())).collect();
    engine.commit(commands, Vec::new()).await.unwrap();
    engine.close().await.unwrap();
    forget_append_times(&Connection::open(&path).unwrap(), at);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let look = async |retention_ms, bytes| {
        let limits = RetentionLimits { retention_ms, retention_bytes: Some(bytes) };
        let looks = engine.retention(vec![(at, limits)], 1_000_000).await.unwrap();
        looks.into_iter().next().unwrap().unwrap().unwrap().log_start
    };
    for kept in 0..=40 {
        let expected = Some(40 - kept).filter(|start| *start > 0);
        for retention_ms in [None, Some(500)] {
            assert_eq!(look(retention_ms, kept * each).await, expected, "{kept} are kept");
            // Half a batch more: the one at the limit stays, as in Kafka.
            let expected = Some(40 - kept - 1).filter(|start| *start > 0);
            assert_eq!(
                look(retention_ms, kept * each + each / 2).await,
                expected,
                "{kept} and a half are kept"
            );
        }
    }
    // One that is too old takes all before it along, those that the size would have kept too.
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NewRecord { timestamp: 2_000, value: Some(b"v"), ..NewRecord::default() });
    let dated = Batch::check(builder.build().unwrap()).unwrap();
    engine.commit(vec![Command::Append(Append::new(at, &dated, 2_000))], Vec::new()).await.unwrap();
    assert_eq!(look(Some(500), 10 * each + each / 2).await, Some(41));
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

/// Makes the batches of a log as an earlier release stored them, which did not keep when they were appended.
fn forget_append_times(file: &Connection, at: TopicPartition) {
    let unknown = |entries: &[BatchSpan]| -> Vec<BatchSpan> {
        entries.iter().map(|entry| BatchSpan { times: Times::default(), ..*entry }).collect()
    };
    let log = Log::load(file, at).unwrap().unwrap();
    let tail = unknown(log.tail());
    let tail_start = tail.first().map_or(log.end(), |first| first.base);
    file.execute("UPDATE logs SET tail = ?1", [pack_entries(tail_start, &tail)]).unwrap();
    let mut blocks = file.prepare("SELECT id, entries FROM blocks").unwrap();
    let blocks = blocks.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    let blocks: Vec<(i64, Vec<u8>)> = blocks.collect::<Result<_, _>>().unwrap();
    assert!(!blocks.is_empty(), "the log is to have blocks");
    for (id, packed) in blocks {
        let start = offset_of(id);
        let entries = pack_entries(start, &unknown(&unpack_entries(start, &packed).unwrap()));
        file.execute("UPDATE blocks SET entries = ?1 WHERE id = ?2", params![entries, id]).unwrap();
    }
    file.execute("UPDATE spans SET undated_ms = -1", []).unwrap();
}

#[tokio::test]
async fn a_store_that_others_have_open_is_not_migrated() {
    let home = folder("others");
    let path = home.join("y.db");
    write_format_1(&Memory::new(), &path).await;
    let other = connect(&path).unwrap();
    let count = "SELECT count(*) FROM documents";
    let documents: i64 = other.query_row(count, [], |row| row.get(0)).unwrap();
    let refused = Sqlite::open(&path, &small_settings()).err().unwrap();
    assert!(refused.0.contains("another process has the old file open"), "{refused}");
    assert_eq!(other.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), documents);
    drop(other);
    Sqlite::open(&path, &small_settings()).unwrap().close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_migration_that_was_interrupted_is_ended() {
    let home = folder("interrupted");
    let path = home.join("y.db");
    let migrating = home.join("y.db-migrating");
    let backup = home.join("y.db-format-1");
    let model = Memory::new();
    // While it copied: an unfinished copy.
    write_format_1(&model, &path).await;
    std::fs::write(&migrating, "half of it").unwrap();
    Sqlite::open(&path, &small_settings()).unwrap().close().await.unwrap();
    assert!(path.exists() && !migrating.exists() && !backup.exists());
    // Between the two renames: the copy is complete, and a symbolic link to the store leads nowhere.
    std::fs::rename(&path, &migrating).unwrap();
    write_format_1(&model, &backup).await;
    let link = home.join("link.db");
    std::os::unix::fs::symlink("y.db", &link).unwrap();
    Sqlite::open(&link, &small_settings()).unwrap().close().await.unwrap();
    assert!(path.exists() && !migrating.exists() && !backup.exists());
    // Before the backup was deleted: it is left over, and may be anybody's.
    write_format_1(&model, &backup).await;
    Sqlite::open(&path, &small_settings()).unwrap().close().await.unwrap();
    assert!(path.exists() && backup.exists());
    std::fs::remove_dir_all(&home).unwrap();
}

/// Longer than a reply can be under way here.
const HOUR: Duration = Duration::from_secs(3_600);

/// A partition with a batch of a megabyte, and a small one after it.
async fn large_and_small(home: &Path, delete_delay: Duration) -> (Sqlite, TopicPartition) {
    std::fs::create_dir_all(home).unwrap();
    let settings = Settings { delete_delay: Span(delete_delay), ..small_settings() };
    let engine = Sqlite::open(&home.join("y.db"), &settings).unwrap();
    let id = TopicId(uuid::Uuid::from_u128(7));
    let at = TopicPartition { topic: id, partition: 0 };
    let (name, configs) = (Arc::from("orders"), BTreeMap::new());
    let mut commands = vec![Command::CreateTopic { name, id, partitions: 1, configs }];
    for bytes in [1 << 20, 100] {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { value: Some(&vec![b'v'; bytes]), ..NewRecord::default() });
        let batch = Batch::check(builder.build().unwrap()).unwrap();
        commands.push(Command::Append(Append::new(at, &batch, 1)));
    }
    engine.commit(commands, Vec::new()).await.unwrap();
    (engine, at)
}

async fn located(engine: &Sqlite, at: TopicPartition, offset: i64) -> ReadOutcome {
    let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(offset), 2 << 20);
    engine.read(vec![spec], ReadLimits { bytes_max: 2 << 20, now_max: 0 }).await.unwrap().remove(0)
}

fn records_of(outcome: ReadOutcome) -> RecordsLater {
    let ReadOutcome::Read { rest: Some(rest), batches, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((batches.len(), rest.next_offset), (0, 2));
    rest.records
}

#[tokio::test]
async fn a_reply_is_sent_whole_though_its_records_are_deleted_meanwhile() {
    let home = folder("meanwhile");
    let (engine, at) = large_and_small(&home, HOUR).await;
    let RecordsLater { bytes, source } = records_of(located(&engine, at, 0).await);
    let (first, source) = source.read(400_000).await.unwrap();
    let trim = Command::AdvanceLogStart { partition: at, offset: 2 };
    engine.commit(vec![trim, Command::DeleteTopic { id: at.topic }], Vec::new()).await.unwrap();
    engine.maintain(i64::MAX / 2).await.unwrap();
    let mut sent = first.concat().len() as u64;
    let mut source = source;
    // The small batch was only in the journal, and is gone with its topic: nothing else is.
    while sent < 1 << 20 {
        let (piece, next) = source.read(400_000).await.unwrap();
        sent += piece.concat().len() as u64;
        source = next;
    }
    assert!(bytes - sent < 300, "{sent} of {bytes}");
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_reply_that_outlives_its_records_ends() {
    let home = folder("outlives");
    let (engine, at) = large_and_small(&home, Duration::ZERO).await;
    let RecordsLater { source, .. } = records_of(located(&engine, at, 0).await);
    let (_, source) = source.read(400_000).await.unwrap();
    engine.commit(vec![Command::DeleteTopic { id: at.topic }], Vec::new()).await.unwrap();
    let failed = source.read(400_000).await.map(|_| ()).unwrap_err();
    assert!(failed.contains("took longer"), "{failed}");
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn what_could_not_be_read_for_a_reply_is_named_by_the_next() {
    let home = folder("damage");
    let (engine, at) = large_and_small(&home, HOUR).await;
    let RecordsLater { source, .. } = records_of(located(&engine, at, 0).await);
    let file = Connection::open(home.join("y.db")).unwrap();
    file.execute("DELETE FROM batches", []).unwrap();
    let failed = source.read(400_000).await.map(|_| ()).unwrap_err();
    assert!(failed.contains("reading a batch of a reply"), "{failed}");
    assert!(matches!(located(&engine, at, 0).await, ReadOutcome::Failed(_)));
    let ReadOutcome::Read { rest: Some(rest), .. } = located(&engine, at, 1).await else { panic!() };
    let (small, _) = rest.records.source.read(1_000).await.unwrap();
    assert_eq!(small.concat().len() as u64, rest.records.bytes, "what follows the damage can be read");
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

/// Replaces the large batch.
async fn clean_first(engine: &Sqlite, at: TopicPartition, steps: u64, payload: Bytes) {
    let header = Batch::split_first(&mut payload.clone()).unwrap();
    let batch = CleanedBatch {
        base_offset: 0,
        next_offset: 1,
        max_timestamp: header.max_timestamp(),
        has_records: header.record_count() > 0,
        payload: Payload(payload),
    };
    let runs = vec![CleanedRun { from: 0, until: 1, batches: vec![batch] }];
    let clean = Clean { partition: at, steps, log_start: 0, runs, ended: Vec::new(), clean_end: None };
    let done = engine.commit(vec![Command::Clean(clean)], Vec::new()).await.unwrap();
    assert_eq!(done, [Ok(Applied::Cleaned(true))]);
}

/// Reads a reply to its end; returns how many bytes were sent before it failed, and why.
async fn read_all(records: RecordsLater, piece: usize) -> (u64, Option<String>) {
    let RecordsLater { bytes, mut source } = records;
    let mut sent = 0;
    while sent < bytes {
        match source.read(piece.min((bytes - sent) as usize)).await {
            Ok((read, next)) => {
                sent += read.concat().len() as u64;
                source = next;
            }
            Err(why) => return (sent, Some(why)),
        }
    }
    (sent, None)
}

#[tokio::test]
async fn a_reply_never_has_parts_of_two_batches() {
    let home = folder("two-batches");
    let (engine, at) = large_and_small(&home, HOUR).await;
    let RecordsLater { bytes, source } = records_of(located(&engine, at, 0).await);
    let (_, source) = source.read(400_000).await.unwrap();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NewRecord { value: Some(&vec![b'w'; 1 << 20]), ..NewRecord::default() });
    clean_first(&engine, at, 0, builder.build().unwrap()).await;
    let failed = source.read(400_000).await.map(|_| ()).unwrap_err();
    assert!(failed.contains("compaction has replaced"), "{failed}");
    // The next reply has the new one.
    assert_eq!(read_all(records_of(located(&engine, at, 0).await), 400_000).await, (bytes, None));
    engine.close().await.unwrap();
    assert_eq!(faults(&home), Vec::<String>::new());
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_reply_that_has_announced_what_is_gone_ends() {
    let home = folder("announced");
    let (engine, at) = large_and_small(&home, HOUR).await;
    let records = records_of(located(&engine, at, 0).await);
    let (.., nothing) = gap(0, 1, 0).remove(0);
    clean_first(&engine, at, 0, nothing).await;
    let bytes = records.bytes;
    let (sent, failed) = read_all(records, 400_000).await;
    assert!(sent < bytes && failed.is_some_and(|failed| failed.contains("compaction has replaced")));
    // It is no damage.
    let left = read_all(records_of(located(&engine, at, 0).await), 400_000).await;
    assert_eq!(left, (sent, None));
    let mut page = Page::default();
    engine.collect(&mut page);
    assert!(page.into_text().contains("yagura_store_damaged{what=\"partition\"} 0"));
    engine.close().await.unwrap();
    assert_eq!(faults(&home), Vec::<String>::new());
    std::fs::remove_dir_all(&home).unwrap();
}
