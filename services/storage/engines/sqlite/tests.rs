//! Crashes and migrations, against the memory engine: what was acknowledged is there.

use std::path::{Path, PathBuf};

use kernel::TopicPartition;
use kernel::records::Batch;
use rules::documents::{AnyKind, Counters, Document, DocumentKind, KINDS, Key, PartitionDocument};
use rusqlite::{Connection, params};

use super::open::connect;
use super::schema::{APPLICATION_ID, pack};
use super::writer::{Job, ask};
use super::{Sqlite, verify};
use crate::engines::memory::Memory;
use crate::engines::model_tests::{Dice, first_ids, same_everything, small_settings};
use crate::engines::{Engine, ReadFrom, ReadOutcome, ReadSpec};

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
    for seed in 1..=12 {
        let (mut dice, mut ids, model) = (Dice::seeded(seed), first_ids(), Memory::new());
        let home = all.join(seed.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let engine = Sqlite::open(&home.join("y.db"), &small_settings()).unwrap();
        for step in 0..70 {
            let commands: Vec<_> = (0..=dice.roll(4)).map(|_| dice.command(&mut ids, step)).collect();
            let expected = model.commit(commands.clone(), Vec::new()).await.unwrap();
            assert_eq!(engine.commit(commands, Vec::new()).await.unwrap(), expected);
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
    let next_id = counters.map_or(0, |counters| counters.get::<Counters>().unwrap().next_producer_id);
    let counters = format!("{{\"next_producer_id\":{next_id},\"next_partition_number\":1000}}");
    let put = |key: &Key, text: &str| {
        file.execute("INSERT INTO documents VALUES (?1, ?2)", [key.as_str(), text]).unwrap();
    };
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
            put(&key, &old_partition(&document, number));
            write_batches(model, &file, at, number).await;
        }
    }
}

fn old_partition(document: &Document, number: u32) -> String {
    let PartitionDocument { log_start, end, leader_epoch } = *document.get().unwrap();
    format!(
        "{{\"number\":{number},\"log_start\":{log_start},\"end\":{end},\"bytes\":0,\"leader_epoch\":{leader_epoch}}}"
    )
}

async fn write_batches(model: &Memory, file: &Connection, partition: TopicPartition, number: u32) {
    let sizes = model.get(vec![PartitionDocument::key(&partition)]).await.unwrap();
    let log_start = sizes[0].as_ref().unwrap().get::<PartitionDocument>().unwrap().log_start;
    let spec = ReadSpec { partition, from: ReadFrom::Offset(log_start), bytes_max: usize::MAX };
    let ReadOutcome::Read { batches, .. } = model.read(vec![spec], usize::MAX).await.unwrap().remove(0)
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
