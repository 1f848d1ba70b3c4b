//! A store is one file, whatever it is called, and one process's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel::TopicId;
use rules::commands::Command;
use rules::documents::{DocumentKind, TopicDocument};
use rusqlite::Connection;
use uuid::Uuid;

use super::Sqlite;
use crate::engines::model_tests::small_settings;
use crate::engines::{Engine, StoreError};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("yagura-owner-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn open(path: &Path) -> Result<Sqlite, StoreError> {
    Sqlite::open(path, &small_settings())
}

fn assert_held(path: &Path) {
    let refused = open(path).err().unwrap_or_else(|| panic!("{} was opened twice", path.display()));
    assert!(refused.0.contains("is held by another process; stop that one first"), "{refused}");
}

fn create(name: &str, number: u128) -> Vec<Command> {
    let (name, id, configs) = (Arc::from(name), TopicId(Uuid::from_u128(number)), BTreeMap::new());
    vec![Command::CreateTopic { name, id, partitions: 1, configs }]
}

async fn has_topic(engine: &Sqlite, name: &str) -> bool {
    let found = engine.get(vec![TopicDocument::key(&Arc::from(name))]).await.unwrap();
    found[0].is_some()
}

/// Why the engine cannot go on, which it says soon.
async fn failure(engine: &Sqlite) -> StoreError {
    tokio::time::timeout(Duration::from_secs(60), engine.failed()).await.unwrap()
}

#[tokio::test]
async fn a_store_is_held_under_all_its_names() {
    let home = folder("names");
    let path = home.join("y.db");
    let engine = open(&path).unwrap();
    let (link, hard_link) = (home.join("link.db"), home.join("hard.db"));
    std::os::unix::fs::symlink("y.db", &link).unwrap();
    std::fs::hard_link(&path, &hard_link).unwrap();
    std::fs::create_dir(home.join("folder")).unwrap();
    for other in [&path, &link, &hard_link, &home.join("folder/../y.db")] {
        assert_held(other);
    }
    std::fs::remove_file(home.join("y.db-lock")).unwrap();
    assert_held(&path);
    engine.commit(create("orders", 7), Vec::new()).await.unwrap();
    assert!(has_topic(&engine, "orders").await, "the first one goes on");
    engine.close().await.unwrap();
    // By a name that it was not used by, its write-ahead log might not be found.
    assert!(open(&hard_link).map(drop).unwrap_err().0.contains("hard links"));
    std::fs::write(home.join("y.db-lock"), "").unwrap();
    // What is left of the first one does not unlock what another one has.
    let again = open(&path).unwrap();
    drop(engine);
    assert_held(&hard_link);
    assert!(has_topic(&again, "orders").await);
    again.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn nothing_is_written_to_a_store_that_was_taken_over() {
    let home = folder("taken-over");
    let path = home.join("y.db");
    let engine = open(&path).unwrap();
    engine.commit(create("mine", 1), Vec::new()).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute("UPDATE counters SET value = 7 WHERE name = 'owner'", []).unwrap();
    let rows = || other.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = rows();
    for attempt in 0..2 {
        let refused = engine.commit(create("lost", 2), Vec::new()).await.unwrap_err();
        assert!(refused.0.contains("another process has taken over the store"), "{attempt}: {refused}");
    }
    assert!(engine.maintain(1).await.is_err(), "nor is it folded");
    assert_eq!(rows(), before);
    assert!(has_topic(&engine, "mine").await && !has_topic(&engine, "lost").await, "it is still read");
    assert!(failure(&engine).await.0.contains("stop one of them"));
    engine.close().await.unwrap();
    assert_eq!(rows(), before, "what is in the journal stays there");
    drop(other);
    let again = open(&path).unwrap();
    assert!(has_topic(&again, "mine").await);
    again.commit(create("lost", 2), Vec::new()).await.unwrap();
    again.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn the_one_before_is_fenced_by_the_next_opening() {
    let home = folder("next");
    let path = home.join("y.db");
    let engine = open(&path).unwrap();
    // As on a file system that has no locks.
    engine.shared.lock.release();
    let next = open(&path).unwrap();
    next.commit(create("theirs", 1), Vec::new()).await.unwrap();
    let maintained = engine.maintain(1).await.unwrap_err();
    assert_eq!(maintained, failure(&engine).await);
    assert!(engine.commit(create("mine", 2), Vec::new()).await.is_err());
    next.commit(create("more", 3), Vec::new()).await.unwrap();
    next.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_store_that_has_lost_its_name_is_not_written_to() {
    let home = folder("lost");
    let path = home.join("y.db");
    let engine = open(&path).unwrap();
    engine.commit(create("mine", 1), Vec::new()).await.unwrap();
    std::fs::rename(&path, home.join("moved.db")).unwrap();
    let lost = engine.maintain(1).await.unwrap_err();
    assert!(lost.0.contains("was removed, replaced or moved"), "{lost}");
    assert_eq!(failure(&engine).await, lost);
    assert_eq!(engine.commit(create("lost", 2), Vec::new()).await.unwrap_err(), lost);
    let _ = engine.close().await;
    std::fs::rename(home.join("moved.db"), &path).unwrap();
    let engine = open(&path).unwrap();
    assert!(has_topic(&engine, "mine").await && !has_topic(&engine, "lost").await);
    // Another file in its place is noticed by a commit, within a second.
    std::fs::rename(&path, home.join("moved.db")).unwrap();
    std::fs::write(&path, "").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(engine.commit(create("lost", 2), Vec::new()).await.unwrap_err(), lost);
    let _ = engine.close().await;
    std::fs::remove_dir_all(&home).unwrap();
}
