//! Tests that a store is the same once it was copied to another engine, and back.

use rules::commands::Command;
use rules::documents::{Counters, DocumentKind, KINDS, NodeDocument, PartitionDocument, StoreLevel};
use uuid::Uuid;

use super::memory::Memory;
use super::model_cleaning::clean;
use super::model_tests::{Dice, TESTED, Tested, first_ids, records_of};
use super::{Engine, ReadFrom, ReadLimits, ReadSpec, postgres};
use crate::copy::{begin, copy_engine, end};

/// A store with all that random commands make.
async fn filled(tested: &Tested, seed: u64) -> Memory {
    let mut dice = Dice::of(tested, seed);
    let (mut ids, model, twin) = (first_ids(), Memory::new(), Memory::new());
    for step in 0..150 {
        let command = if dice.roll(3) == 0 {
            dice.transaction_command(&model, &ids, step).await
        } else {
            dice.command(&mut ids, step)
        };
        let outcome = model.commit(vec![command.clone()], Vec::new()).await.unwrap();
        assert_eq!(twin.commit(vec![command], Vec::new()).await.unwrap(), outcome);
        if dice.roll(10) == 0 {
            let partition = dice.partition(&ids);
            clean(&model, &twin, &mut dice, partition, "before the copy").await;
        }
    }
    model
}

async fn same(one: &dyn Engine, other: &dyn Engine, context: &str) {
    // Brokers stay where they are, and each store has epochs of its own.
    let is_own =
        |prefix: &str| [NodeDocument::PREFIX, StoreLevel::PREFIX, Counters::PREFIX].contains(&prefix);
    for kind in KINDS.iter().filter(|kind| !is_own(kind.prefix())) {
        let documents = one.scan(kind.key_prefix(), None, usize::MAX).await.unwrap();
        assert_eq!(other.scan(kind.key_prefix(), None, usize::MAX).await.unwrap(), documents, "{context}");
    }
    let mut next_ids = Vec::new();
    for engine in [one, other] {
        let counters = engine.get(vec![Counters::key(&())]).await.unwrap().remove(0);
        next_ids.push(counters.and_then(|counters| Some(counters.get::<Counters>()?.next_producer_id)));
    }
    assert_eq!(next_ids[0].unwrap_or(0), next_ids[1].unwrap_or(0), "{context}: the next producer id");
    for (key, document) in one.scan(PartitionDocument::prefix(), None, usize::MAX).await.unwrap() {
        let partition = PartitionDocument::parse_key(&key).unwrap();
        let from = ReadFrom::Offset(document.get::<PartitionDocument>().unwrap().log_start);
        let spec = ReadSpec::uncommitted(partition, from, 1 << 30);
        let mut records = Vec::new();
        for engine in [one, other] {
            let read = engine.read(vec![spec], ReadLimits::all_now(1 << 30)).await.unwrap();
            records.push(records_of(read.into_iter().next().unwrap(), 1 << 20).await);
        }
        assert!(records[0] == records[1], "{context}: {key}");
        let sizes = one.sizes(vec![partition]).await;
        assert_eq!(other.sizes(vec![partition]).await, sizes, "{context}: {key}");
    }
}

#[tokio::test]
async fn a_store_is_the_same_on_another_engine_and_back() {
    let all = std::env::temp_dir().join(format!("yagura-copy-{}", std::process::id()));
    // A run that failed may have left one of the same number.
    let _ = std::fs::remove_dir_all(&all);
    for tested in &TESTED {
        let mut batches = 0;
        for seed in 1..=tested.seeds.min(8) {
            let folder = all.join(tested.name).join(seed.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let Some(place) = (tested.place)(&folder) else { break };
            let context = format!("{}, seed {seed}", tested.name);
            let (source, back) = (filled(tested, seed).await, Memory::new());
            let target = (tested.open)(&place).await.unwrap();
            let (mut told, id) = ((0, 0), Uuid::from_u128(1));
            begin(&*target, id).await.unwrap();
            let report =
                copy_engine(&source, &*target, id, &mut |done, total| told = (done, total)).await.unwrap();
            end(&*target, id).await.unwrap();
            assert!(
                told.0 == told.1 && (told.1 > 0) == (report.batches > 0),
                "{context}: {report}, {told:?}"
            );
            batches += report.batches;
            same(&source, &*target, &context).await;
            target.close().await.unwrap();
            assert_eq!((tested.verify)(&place).await.unwrap(), Vec::<String>::new(), "{context}");
            let target = (tested.open)(&place).await.unwrap();
            begin(&back, id).await.unwrap();
            copy_engine(&*target, &back, id, &mut |_, _| {}).await.unwrap();
            end(&back, id).await.unwrap();
            same(&source, &back, &context).await;
            // It goes on as any other.
            let (mut dice, mut ids) = (Dice::of(tested, seed + 100), first_ids());
            for step in 150..200 {
                let command: Vec<Command> = vec![dice.command(&mut ids, step)];
                let expected = back.commit(command.clone(), Vec::new()).await.unwrap();
                assert_eq!(target.commit(command, Vec::new()).await.unwrap(), expected, "{context}");
            }
            target.close().await.unwrap();
            assert_eq!((tested.verify)(&place).await.unwrap(), Vec::<String>::new(), "{context}");
        }
        assert!(
            batches > 0 || postgres::testing::new_store().is_none(),
            "{}: nothing was copied",
            tested.name
        );
    }
    std::fs::remove_dir_all(&all).unwrap();
}
