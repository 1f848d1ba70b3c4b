//! Damages pages of real files: what is elsewhere works, and is salvaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, TopicId, TopicPartition};
use rules::commands::{Append, Command};
use rules::documents::{DocumentKind, PartitionDocument, TopicDocument};
use rusqlite::{Connection, params};

use super::logs::Log;
use super::schema::pack;
use super::writer::{Job, ask};
use super::{Sqlite, salvage, verify};
use crate::engines::model_tests::{Dice, small_settings};
use crate::engines::{Engine, ReadFrom, ReadLimits, ReadOutcome, ReadSpec};

const TOPICS: u128 = 6;
const PARTITIONS: i32 = 4;
/// A page has batches of so many partitions at most.
const ON_A_PAGE: usize = 8;
/// A page has about a hundred documents of partitions.
const EXTRA: i32 = 300;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("yagura-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn all() -> impl Iterator<Item = TopicPartition> {
    let topic = |number| TopicId(uuid::Uuid::from_u128(number));
    (1..=TOPICS).flat_map(move |number| {
        (0..PARTITIONS).map(move |partition| TopicPartition { topic: topic(number), partition })
    })
}

/// How many batches a partition has: none as many as another.
fn count(at: TopicPartition) -> i64 {
    20 + all().position(|other| other == at).unwrap() as i64
}

fn append(at: TopicPartition, number: i64) -> Command {
    let codec = if number % 2 == 0 { Codec::None } else { Codec::Lz4 };
    let mut builder = BatchBuilder::new(codec);
    let value = format!("{}-{number} ", at.partition).repeat(300);
    builder.push(NewRecord { timestamp: number, value: Some(value.as_bytes()), ..NewRecord::default() });
    let batch = Batch::check(builder.build().unwrap()).unwrap();
    Command::Append(Append::new(at, &batch, number))
}

/// A closed store with some topics.
async fn filled(path: &Path) {
    let engine = Sqlite::open(path, &small_settings()).unwrap();
    let create = |number| Command::CreateTopic {
        name: Arc::from(format!("topic-{number}")),
        id: TopicId(uuid::Uuid::from_u128(number)),
        partitions: PARTITIONS,
        configs: BTreeMap::new(),
    };
    committed(&engine, (1..=TOPICS).map(create).collect()).await;
    let (name, id) = (Arc::from("extra"), TopicId(uuid::Uuid::from_u128(1 << 100)));
    let configs = BTreeMap::new();
    committed(&engine, vec![Command::CreateTopic { name, id, partitions: EXTRA, configs }]).await;
    for number in 0..100 {
        let growing = all().filter(|at| number < count(*at));
        committed(&engine, growing.map(|at| append(at, number)).collect()).await;
    }
    engine.close().await.unwrap();
}

async fn committed(engine: &Sqlite, commands: Vec<Command>) {
    for outcome in engine.commit(commands, Vec::new()).await.unwrap() {
        outcome.unwrap();
    }
}

/// The batches of each partition that can be read one by one, by their offsets.
async fn records(engine: &Sqlite) -> BTreeMap<(TopicPartition, i64), Bytes> {
    let mut records = BTreeMap::new();
    for partition in all() {
        for offset in 0..count(partition) {
            let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(offset), 1);
            let read = engine.read(vec![spec], ReadLimits::all_now(1)).await.unwrap().remove(0);
            let ReadOutcome::Read { batches, .. } = read else { continue };
            let batch = batches.first().and_then(|data| Batch::check(data.clone()).ok());
            // One without records stands for others, too.
            if let Some(batch) = batch.filter(|batch| batch.base_offset() == offset) {
                records.insert((partition, offset), batch.bytes().clone());
            }
        }
    }
    records
}

/// The pages of a table or an index that are its leaves, by number, from 1. Page 1 has the schema and is left alone.
fn leaves(path: &Path, table: &str) -> Vec<u64> {
    let file = Connection::open(path).unwrap();
    let root: u32 = file
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1 AND type = 'table'", [table], |row| {
            row.get(0)
        })
        .unwrap();
    let page_size: u32 = file.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page_size = u64::from(page_size);
    drop(file);
    let content = std::fs::read(path).unwrap();
    let number = |at: usize| u64::from(u32::from_be_bytes(content[at..at + 4].try_into().unwrap()));
    let (mut leaves, mut left) = (Vec::new(), vec![u64::from(root)]);
    while let Some(page) = left.pop() {
        let at = ((page - 1) * page_size) as usize;
        // Interior pages have 2 or 5 as their first byte, a right-most child, and cells that begin with a child.
        if !matches!(content[at], 2 | 5) {
            leaves.push(page);
            continue;
        }
        left.push(number(at + 8));
        let cells = usize::from(u16::from_be_bytes([content[at + 3], content[at + 4]]));
        for cell in 0..cells {
            let pointer = at + 12 + 2 * cell;
            let cell = usize::from(u16::from_be_bytes([content[pointer], content[pointer + 1]]));
            left.push(number(at + cell));
        }
    }
    leaves
}

/// Overwrites a page with what is no page.
fn damage(path: &Path, page: u64, dice: &mut Dice) {
    let file = Connection::open(path).unwrap();
    let page_size: u32 = file.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page_size = page_size as usize;
    drop(file);
    let mut content = std::fs::read(path).unwrap();
    let from = (page as usize - 1) * page_size;
    // The first byte tells the kind of a page, and 255 is none.
    content[from] = 255;
    content[from + 1..from + page_size].fill_with(|| dice.roll(256) as u8);
    std::fs::write(path, content).unwrap();
}

/// What must hold of a store with a damaged page, and of what is salvaged of it.
async fn check(
    home: &Path,
    table: &str,
    page: u64,
    whole: &BTreeMap<(TopicPartition, i64), Bytes>,
    dice: &mut Dice,
) {
    let context = format!("page {page} of {table}");
    let (path, saved) = (home.join("damaged.db"), home.join("saved.db"));
    std::fs::copy(home.join("y.db"), &path).unwrap();
    damage(&path, page, dice);
    let faults = verify(&path, &mut |_, _| {}).unwrap().faults;
    assert!(!faults.is_empty(), "{context} is named");
    let before = std::fs::read(&path).unwrap();
    let report = salvage(&path, &saved, &mut |_, _| {}).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before, "{context}: the source is as it was");
    let again = verify(&saved, &mut |_, _| {}).unwrap();
    assert_eq!(again.faults, Vec::<String>::new(), "{context}: {report}");
    let engine = Sqlite::open(&saved, &small_settings()).unwrap();
    let kept = records(&engine).await;
    assert!(kept.iter().all(|(at, data)| whole.get(at) == Some(data)), "{context}: at their offsets");
    if !["batches", "documents", "texts"].contains(&table) {
        // The index is built anew, and which batches are whose is known from where they end.
        assert_eq!((kept.len(), &report.lost), (whole.len(), &Vec::new()), "{context}");
    }
    if table == "batches" {
        assert!(kept.len() > whole.len() / 2 && !report.lost.is_empty(), "{context}: {report}");
    }
    for at in all() {
        let outcome = engine.commit(vec![append(at, 100)], Vec::new()).await.unwrap().remove(0);
        let exists = engine.get(vec![PartitionDocument::key(&at)]).await.unwrap()[0].is_some();
        assert_eq!(outcome.is_ok(), exists, "{context}: {outcome:?}");
    }
    engine.close().await.unwrap();
    std::fs::remove_file(&saved).unwrap();
}

#[tokio::test]
async fn what_is_not_damaged_is_salvaged() {
    let home = folder("salvaged");
    let path = home.join("y.db");
    filled(&path).await;
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let whole = records(&engine).await;
    engine.close().await.unwrap();
    assert_eq!(whole.len() as i64, all().map(count).sum::<i64>());
    let mut dice = Dice::seeded(11);
    for table in ["documents", "texts", "logs", "blocks", "spans", "batches"] {
        let leaves = leaves(&path, table);
        let pages: BTreeSet<u64> = (0..4).map(|_| dice.pick(&leaves)).collect();
        for page in pages {
            check(&home, table, page, &whole, &mut dice).await;
        }
    }
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_sound_store_is_salvaged_whole() {
    let home = folder("sound");
    let (path, saved) = (home.join("y.db"), home.join("saved.db"));
    filled(&path).await;
    let report = salvage(&path, &saved, &mut |_, _| {}).unwrap();
    assert_eq!(report.lost, Vec::<String>::new());
    assert_eq!(
        (report.topics, report.partitions),
        (1 + TOPICS as u64, (EXTRA + TOPICS as i32 * PARTITIONS) as u64)
    );
    assert_eq!(verify(&saved, &mut |_, _| {}).unwrap().faults, Vec::<String>::new());
    let (old, new) =
        (Sqlite::open(&path, &small_settings()).unwrap(), Sqlite::open(&saved, &small_settings()).unwrap());
    assert_eq!(records(&new).await, records(&old).await);
    let topics = TopicDocument::prefix();
    assert_eq!(
        new.scan(topics.clone(), None, 100).await.unwrap(),
        old.scan(topics, None, 100).await.unwrap()
    );
    assert!(salvage(&path, &saved, &mut |_, _| {}).unwrap_err().contains("exists already"));
    let other = home.join("other.db");
    assert!(salvage(&path, &other, &mut |_, _| {}).unwrap_err().contains("held by another process"));
    assert!(!other.exists());
    old.close().await.unwrap();
    new.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

/// What is in the journal only, as after a kill, is salvaged by way of a private copy of the WAL.
#[tokio::test]
async fn a_killed_store_is_salvaged_with_its_journal() {
    let home = folder("killed-salvage");
    let (path, killed, saved) = (home.join("y.db"), home.join("killed.db"), home.join("saved.db"));
    filled(&path).await;
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    committed(&engine, all().map(|at| append(at, 100)).collect()).await;
    // The writer may still be folding after its answer.
    let jobs = engine.jobs.lock().clone();
    ask(&jobs, |answer| Job::NoteGarbage { now_ms: 0, answer }).await.unwrap();
    for suffix in ["", "-wal"] {
        std::fs::copy(home.join(format!("y.db{suffix}")), home.join(format!("killed.db{suffix}"))).unwrap();
    }
    engine.close().await.unwrap();
    let report = salvage(&killed, &saved, &mut |_, _| {}).unwrap();
    assert_eq!(report.lost, Vec::<String>::new());
    let engine = Sqlite::open(&saved, &small_settings()).unwrap();
    for at in all() {
        let found = engine.get(vec![PartitionDocument::key(&at)]).await.unwrap().remove(0).unwrap();
        assert_eq!(found.get::<PartitionDocument>().unwrap().end, count(at) + 1);
    }
    engine.close().await.unwrap();
    let left: BTreeSet<String> = std::fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().all(|file| !file.contains("salvaging") && file != "killed.db-shm"), "{left:?}");
    std::fs::remove_dir_all(&home).unwrap();
}

/// A flipped bit in the length of a batch, and in the id of a row.
#[tokio::test]
async fn a_batch_that_is_not_that_of_its_row_is_damaged() {
    let home = folder("rows");
    let path = home.join("y.db");
    filled(&path).await;
    let [one, other] = [1, 2].map(|nth| all().nth(nth).unwrap());
    let file = Connection::open(&path).unwrap();
    let number = |at: TopicPartition| Log::load(&file, at).unwrap().unwrap().number;
    let id = |at, offset| pack(number(at), offset);
    let cut = "UPDATE batches SET data = CAST(substr(data, 1, 8) || x'00000064' || substr(data, 13) AS BLOB) WHERE id = ?1";
    assert_eq!(file.execute(cut, [id(one, 5)]), Ok(1));
    let moved = "UPDATE batches SET id = ?2 WHERE id = ?1";
    assert_eq!(file.execute(moved, [id(other, 5), id(other, 5) + (1 << 20)]), Ok(1));
    drop(file);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let read = async |partition, offset| {
        let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(offset), 1 << 20);
        engine.read(vec![spec], ReadLimits::all_now(1 << 20)).await.unwrap().remove(0)
    };
    for at in [one, other] {
        let before = read(at, 0).await;
        let ReadOutcome::Read { batches, .. } = before else { panic!("{at:?}: {before:?}") };
        assert_eq!(batches.len(), 5);
        assert!(matches!(read(at, 5).await, ReadOutcome::Failed(_)), "{at:?}");
        assert!(matches!(read(at, 6).await, ReadOutcome::Read { batches, .. } if !batches.is_empty()));
    }
    engine.close().await.unwrap();
    let report = salvage(&path, &home.join("saved.db"), &mut |_, _| {}).unwrap();
    assert_eq!(report.lost.len(), 2, "{report}");
    assert!(report.lost.iter().all(|lost| lost.contains("offsets 5 to 5")), "{report}");
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn damage_of_one_log_stops_no_other() {
    let home = folder("one-log");
    let path = home.join("y.db");
    filled(&path).await;
    let broken = all().next().unwrap();
    let file = Connection::open(&path).unwrap();
    let key = PartitionDocument::key(&broken);
    // Not a list of entries.
    file.execute("UPDATE logs SET tail = x'63' WHERE key = ?1", params![key.as_str()]).unwrap();
    drop(file);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    for number in 100..110 {
        let commands: Vec<Command> = all().map(|at| append(at, number)).collect();
        for (at, outcome) in all().zip(engine.commit(commands, Vec::new()).await.unwrap()) {
            match outcome {
                Err(refused) => assert_eq!((at, refused.error), (broken, ErrorCode::KafkaStorageError)),
                Ok(_) => assert_ne!(at, broken),
            }
        }
        engine.maintain(1_000_000).await.unwrap();
    }
    let mut page = kernel::metrics::Page::default();
    engine.collect(&mut page);
    let page = page.into_text();
    assert!(page.contains("yagura_store_damaged{what=\"partition\"} 1"), "{page}");
    assert_eq!(engine.sizes(vec![broken]).await.unwrap(), [0]);
    assert!(engine.gauges().await.is_ok());
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

/// What is appended to a log whose place is damaged is kept, and found again; then that log takes no more, and all others do.
#[tokio::test]
async fn a_log_that_cannot_be_folded_is_parked() {
    let home = folder("parked");
    let (sound, path) = (home.join("sound.db"), home.join("y.db"));
    filled(&sound).await;
    let (mut dice, mut parked) = (Dice::seeded(5), 0);
    for page in leaves(&sound, "batches").into_iter().take(12) {
        std::fs::copy(&sound, &path).unwrap();
        damage(&path, page, &mut dice);
        let engine = Sqlite::open(&path, &small_settings()).unwrap();
        committed(&engine, all().map(|at| append(at, 100)).collect()).await;
        engine.maintain(1_000_000).await.unwrap();
        let outcomes = engine.commit(all().map(|at| append(at, 101)).collect(), Vec::new()).await.unwrap();
        let refused: BTreeSet<_> =
            all().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()).map(|(at, _)| at).collect();
        assert!(refused.len() <= ON_A_PAGE, "page {page}: {refused:?}");
        engine.close().await.unwrap();
        let engine = Sqlite::open(&path, &small_settings()).unwrap();
        for at in &refused {
            let spec = ReadSpec::uncommitted(*at, ReadFrom::Offset(count(*at)), 1);
            let read = engine.read(vec![spec], ReadLimits::all_now(1)).await.unwrap().remove(0);
            assert!(
                matches!(read, ReadOutcome::Read { batches, .. } if batches.len() == 1),
                "page {page}: {at:?}"
            );
        }
        engine.close().await.unwrap();
        let saved = home.join("saved.db");
        salvage(&path, &saved, &mut |_, _| {}).unwrap();
        assert_eq!(verify(&saved, &mut |_, _| {}).unwrap().faults, Vec::<String>::new(), "page {page}");
        std::fs::remove_file(&saved).unwrap();
        parked += refused.len();
    }
    assert!(parked > 0);
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn garbage_on_a_damaged_page_is_left_and_all_else_is_freed() {
    let home = folder("garbage");
    let path = home.join("y.db");
    filled(&path).await;
    let pages = leaves(&path, "batches");
    damage(&path, pages[pages.len() / 2], &mut Dice::seeded(3));
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let trim = |partition| Command::AdvanceLogStart { partition, offset: -1 };
    committed(&engine, all().map(trim).collect()).await;
    let mut freed = 0;
    for now_ms in [1_000_000, 1_000_001] {
        freed += engine.maintain(now_ms).await.unwrap();
    }
    assert!(freed > 200_000, "{freed} bytes were freed");
    let mut page = kernel::metrics::Page::default();
    engine.collect(&mut page);
    let page = page.into_text();
    let counted = page.lines().find_map(|line| line.strip_prefix("yagura_store_damaged{what=\"garbage\"} "));
    assert!((1..=ON_A_PAGE).contains(&counted.unwrap().parse::<usize>().unwrap()), "{page}");
    for at in all() {
        committed(&engine, vec![append(at, 100)]).await;
    }
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn listings_leave_out_a_damaged_document_and_its_own_calls_fail() {
    let home = folder("listed");
    let path = home.join("y.db");
    filled(&path).await;
    let file = Connection::open(&path).unwrap();
    file.execute("UPDATE documents SET value = '{' WHERE key = 'topic/topic-3'", []).unwrap();
    drop(file);
    let engine = Sqlite::open(&path, &small_settings()).unwrap();
    let listed = engine.scan(TopicDocument::prefix(), None, 100).await.unwrap();
    assert_eq!(listed.len() as u128, TOPICS, "and another one");
    let get = |name: &str| engine.get(vec![TopicDocument::key(&Arc::from(name))]);
    assert!(get("topic-3").await.is_err() && get("topic-2").await.unwrap()[0].is_some());
    engine.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}
