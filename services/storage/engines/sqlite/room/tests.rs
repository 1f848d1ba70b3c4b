//! A store without room: in the file, on the disk, below its limit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};
use rules::commands::{Append, EndTransaction, ProducerIdAndEpoch, TransactionCommand};

use super::*;
use crate::engines::health::Health;
use crate::engines::memory::Memory;
use crate::engines::model_tests::small_settings;
use crate::engines::resident::CommitStats;
use crate::engines::room::RoomStatus;
use crate::engines::sqlite::cleanings::Cleanings;
use crate::engines::sqlite::damage::Damage;
use crate::engines::sqlite::fold::Fold;
use crate::engines::sqlite::garbage::OLDEST;
use crate::engines::sqlite::open::open;
use crate::engines::sqlite::parked::Parked;
use crate::engines::sqlite::state::Clean;
use crate::engines::sqlite::{Shared, Sqlite};
use crate::engines::{Engine, Watchers};
use crate::settings::Settings;

const AT: TopicPartition = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const BATCH: usize = 64 << 10;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("yagura-room-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn create() -> Command {
    Command::CreateTopic { name: Arc::from("orders"), id: AT.topic, partitions: 1, configs: BTreeMap::new() }
}

fn append() -> Command {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NewRecord { value: Some(&[b'v'; BATCH]), ..NewRecord::default() });
    Command::Append(Append::new(AT, &Batch::check(builder.build().unwrap()).unwrap(), 1))
}

fn trim(offset: i64) -> Command {
    Command::AdvanceLogStart { partition: AT, offset }
}

/// What the writer of a store works with.
fn committer(path: &Path) -> Committer {
    let opened = open(path).unwrap();
    let shared = Arc::new(Shared {
        unfolded: RwLock::new(opened.unfolded),
        clean: Mutex::new(Clean::new(8 << 10)),
        watchers: Watchers::default(),
        stats: CommitStats::new(),
        damage: Damage::default(),
        cleanings: Cleanings::default(),
        unfolded_memory_max: 1 << 20,
        delete_delay: Duration::ZERO,
        room: RoomStatus::new(None),
        is_purged_early: AtomicBool::new(false),
        health: Health::default(),
        lock: opened.lock,
    });
    let room = StoreRoom::new(path, ByteSize(64 << 10), None);
    Committer::new(opened.connection, shared, opened.numbers, opened.fold, opened.owner, room)
}

/// Appends until that is refused; returns how many batches there was room for.
fn fill(committer: &mut Committer) -> i64 {
    for appended in 0..200 {
        let outcome = committer.commit_within_room(&[append()]).unwrap().remove(0);
        if let Err(refused) = outcome {
            assert_eq!(refused.error, ErrorCode::KafkaStorageError);
            return appended;
        }
        committer.room.appended(BATCH);
        committer.tend_room();
    }
    panic!("the file has no bound")
}

#[test]
fn what_frees_room_goes_on_when_the_file_cannot_grow() {
    let home = folder("file");
    let path = home.join("y.db");
    let mut committer = committer(&path);
    committer.make_reserve();
    while committer.is_reserve_growing() {
        committer.grow_reserve();
    }
    let reserved = || std::fs::metadata(home.join("y.db-reserve")).unwrap().len();
    assert_eq!(reserved(), 64 << 10);
    committer.commit_within_room(&[create()]).unwrap().remove(0).unwrap();
    committer.connection.execute_batch("PRAGMA max_page_count=120").unwrap();
    let appended = fill(&mut committer);
    assert!(appended > 10, "{appended}");
    assert_eq!(reserved(), 0, "it was let go");
    let why = committer.shared.room.full().borrow().clone().unwrap();
    assert!(why.contains("no free space") && why.contains("y.db"), "{why}");

    // What adds does not take down what frees, though they share a transaction.
    let shared = [append(), create(), trim(appended / 2), Command::AllocateProducerId { seed: 1 }];
    let outcomes = committer.commit_within_room(&shared).unwrap();
    let went: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(went, [false, false, true, true], "{outcomes:?}");

    // Pages that are free within the file are room, even if the disk has none.
    committer.room.reserve = Reserve::of(&path, ByteSize(1 << 60));
    committer.fold_all().unwrap();
    committer.note_garbage(1_000).unwrap();
    while committer.purge(1_000).unwrap().is_some() {}
    committer.room.looked = None;
    committer.tend_room();
    assert!(!committer.shared.room.is_full());
    let appended = fill(&mut committer);
    assert!(appended > 2, "{appended}");
    assert_eq!(committer.room.lacked, None, "it stops before a write fails");
    assert!(committer.sizes().unwrap().free > 0, "for what frees room");

    // And so is a disk that has room for the reserve again.
    committer.room.reserve = Reserve::of(&path, ByteSize(64 << 10));
    committer.room.looked = None;
    committer.tend_room();
    assert!(!committer.shared.room.is_full());
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn on_a_full_disk_a_large_end_of_a_transaction_waits_for_room() {
    let home = folder("ends");
    let mut room = committer(&home.join("y.db")).room;
    let producer = ProducerIdAndEpoch { id: ProducerId(1), epoch: 0 };
    let end = EndTransaction { producer, commit: false, version: 2, now_ms: 0, leader_epoch: 0 };
    let end = Command::Transaction { id: Arc::from("x"), command: TransactionCommand::End(end) };
    for (state, ended, is_refused) in [
        (Room::DiskFull, ENDED_MAX, false),
        (Room::DiskFull, ENDED_MAX + 1, true),
        (Room::AtLimit, ENDED_MAX + 1, false),
        (Room::Left, ENDED_MAX + 1, false),
    ] {
        room.room = state;
        let refused = room.admit(&end, || ended).err().map(|refused| refused.error);
        assert_eq!(refused, is_refused.then_some(ErrorCode::CoordinatorNotAvailable), "{state:?} {ended}");
    }
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn a_run_passes_once_over_garbage_that_has_to_wait() {
    let home = folder("waits");
    let mut committer = committer(&home.join("y.db"));
    let insert = |committer: &Committer, first: i64, last: i64, seq: i64| {
        let sql = "WITH RECURSIVE numbers (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2)
             INSERT INTO garbage SELECT n, 10, ?3, NULL FROM numbers";
        committer.connection.execute(sql, [first, last, seq]).unwrap();
    };
    let left = |committer: &Committer| -> i64 {
        committer.connection.query_row("SELECT count(*) FROM garbage", [], |row| row.get(0)).unwrap()
    };
    const UNFOLDED: i64 = 1_000;
    insert(&committer, 1, 100, UNFOLDED);
    insert(&committer, 101, 110, 0);

    // A run that meets what waits does the rest, and comes to its end.
    committer.note_garbage(1_000).unwrap();
    let mut steps = 0;
    while committer.purge(1_000).unwrap().is_some() {
        steps += 1;
        assert!(steps < 100, "it does not end");
    }
    assert_eq!(left(&committer), 100);
    // It does not come back to them, whatever has changed; the next one does.
    committer.fold = Fold::of(UNFOLDED, 0, 0, Parked::after_replay(false));
    assert!(committer.purge(1_000).unwrap().is_none());
    committer.note_garbage(2_000).unwrap();
    while committer.purge(2_000).unwrap().is_some() {}
    assert_eq!(left(&committer), 0);

    // A step looks up where it goes on.
    let plan = format!("EXPLAIN QUERY PLAN {OLDEST}");
    let mut statement = committer.connection.prepare(&plan).unwrap();
    let plan = statement.query_map([0_i64; 4], |row| row.get::<_, String>(3)).unwrap();
    let plan: Vec<_> = plan.map(Result::unwrap).collect();
    assert!(plan.len() == 1 && plan[0].starts_with("SEARCH garbage USING INDEX garbage_by_time"), "{plan:?}");
    drop(statement);
    drop(committer);
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn a_disk_counts_as_full_until_it_has_room_for_the_reserve_or_the_file_has_free_pages() {
    let sizes = |used, free| Sizes { used, free, log: LOG_BYTES };
    let after = |room: Room, sizes, lacks_disk| room.after(sizes, Some(1_000), lacks_disk);
    assert_eq!(after(Room::Left, sizes(10, 0), false), Room::Left);
    assert_eq!(after(Room::Left, sizes(10, FREE_LEFT), true), Room::Left);
    assert_eq!(after(Room::Left, sizes(10, FREE_LEFT - 1), true), Room::DiskFull);
    assert_eq!(after(Room::DiskFull, sizes(10, FREE_AGAIN - 1), true), Room::DiskFull);
    assert_eq!(after(Room::DiskFull, sizes(10, FREE_AGAIN), true), Room::Left);
    assert_eq!(after(Room::DiskFull, sizes(10, 0), false), Room::Left);
    let without_log = Sizes { log: LOG_BYTES - 1, ..sizes(10, FREE_AGAIN) };
    assert_eq!(after(Room::DiskFull, without_log, true), Room::DiskFull);
    assert_eq!(after(Room::Left, sizes(1_000, 0), true), Room::AtLimit);
    assert_eq!(after(Room::AtLimit, sizes(999, 0), false), Room::AtLimit);
    assert_eq!(after(Room::AtLimit, sizes(969, 0), false), Room::Left);
    assert_eq!(after(Room::AtLimit, sizes(969, 0), true), Room::DiskFull);
}

#[tokio::test]
async fn a_store_at_its_limit_takes_records_again_once_some_are_deleted() {
    let home = folder("limit");
    let settings = Settings { store_bytes_max: Some(ByteSize(4 << 20)), ..small_settings() };
    let sqlite = Sqlite::open(&home.join("y.db"), &settings).unwrap();
    let engines: [Arc<dyn Engine>; 2] =
        [Arc::new(Memory::limited(settings.store_bytes_max)), Arc::new(sqlite)];
    for engine in engines {
        let commit = async |commands| engine.commit(commands, Vec::new()).await.unwrap();
        assert!(commit(vec![create()]).await[0].is_ok());
        let mut appended = 0;
        while commit(vec![append()]).await[0].is_ok() {
            appended += 1;
            assert!(appended < 100, "it has no limit");
        }
        let why = engine.full().borrow().clone().unwrap();
        assert!(why.contains("store_bytes_max of 4MiB"), "{why}");
        let allocate = Command::AllocateProducerId { seed: 1 };
        let outcomes = commit(vec![append(), allocate, trim(appended / 2)]).await;
        assert_eq!(outcomes[0].as_ref().unwrap_err().error, ErrorCode::KafkaStorageError);
        assert!(outcomes[1].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
        let mut tries = 0;
        while commit(vec![append()]).await[0].is_err() {
            tries += 1;
            assert!(tries < 1_200, "it stays full");
            engine.maintain(1_000).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(*engine.full().borrow(), None);
        engine.close().await.unwrap();
    }
    std::fs::remove_dir_all(&home).unwrap();
}
