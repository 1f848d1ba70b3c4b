//! Epochs and ids over initializations and ends, and markers.

use std::collections::BTreeSet;

use kernel::ErrorCode;
use kernel::records::control;

use super::bench::{Bench, at, batch, text, with_epoch};
use crate::commands::{
    Append, Applied, Command, Effect, EndTransaction, ProducerIdAndEpoch, Retain, TransactionCommand,
    WriteMarker,
};
use crate::documents::{
    AbortedTransaction, DocumentKind, DueKey, DueSubject, OpenTransaction, TransactionDocument,
    TransactionDue, TransactionPartition, TransactionState,
};

const FENCED: Result<ProducerIdAndEpoch, ErrorCode> = Err(ErrorCode::ProducerFenced);

#[test]
fn each_initialization_fences_the_producers_before() {
    let mut bench = Bench::new();
    let first = bench.init("x");
    assert_eq!(first.epoch, 0);
    let second = bench.init("x");
    assert_eq!(second, with_epoch(first, 1));
    assert_eq!(bench.try_init("x", Some(first)), FENCED, "another has been initialized since");
    let third = bench.try_init("x", Some(second)).unwrap();
    assert_eq!(third, with_epoch(first, 2));
    assert_eq!(bench.try_init("x", Some(second)), Ok(third), "a repeated call gets the same");
    let other = bench.init("y");
    assert_ne!(other.id, first.id);
    assert_eq!(bench.try_init("y", Some(third)), FENCED);
    assert_eq!(bench.try_init("z", Some(third)).unwrap().epoch, 0, "an id that has expired begins anew");
}

#[test]
fn an_initialization_aborts_an_open_transaction_at_once() {
    for expects in [false, true] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.append("x", producer, 0, 0);
        let next = bench.try_init("x", expects.then_some(producer)).unwrap();
        let next_epoch = if expects { 1 } else { 2 };
        assert_eq!(next, with_epoch(producer, next_epoch), "as with Kafka, which fences it before");
        assert_eq!(bench.effects.len(), 1);
        assert_eq!((bench.log(0).end, bench.log(0).last_stable()), (2, 2));
        assert_eq!(bench.aborted(0), [(0, 1, 2)]);
        assert_eq!(bench.producer(producer.id, 0).unwrap().epoch, 1);
        assert_eq!(bench.document("x").state, TransactionState::Empty);
        for version in [1, 2] {
            assert_eq!(bench.end("x", producer, true, version), FENCED);
        }
        let again = bench.try_init("x", Some(producer));
        assert_eq!(again, if expects { Ok(next) } else { FENCED });
        assert_eq!(bench.append("x", next, 0, 0), 2, "it goes on");
    }
}

#[test]
fn an_exhausted_epoch_brings_a_new_id() {
    let exhausted = TransactionDocument::EPOCH_MAX;
    for expects in [false, true] {
        let mut bench = Bench::new();
        let producer = with_epoch(bench.init("x"), exhausted);
        bench.change("x", |document| document.epoch = exhausted);
        let next = bench.try_init("x", expects.then_some(producer)).unwrap();
        assert_eq!((next.epoch, next.id == producer.id), (0, false));
        let again = bench.try_init("x", Some(producer));
        assert_eq!(again, if expects { Ok(next) } else { FENCED });
        assert_eq!(bench.try_init("x", Some(producer)).is_ok(), expects, "and once more");
        bench.append("x", next, 0, 0);
        assert_eq!(bench.try_init("x", Some(producer)), FENCED, "the new one is in use");
    }
    // An open transaction is aborted with the last epoch of all.
    for (epoch, marker, next_epoch) in
        [(exhausted, i16::MAX, 0), (exhausted - 1, exhausted, 0), (exhausted - 2, exhausted - 1, exhausted)]
    {
        let mut bench = Bench::new();
        let producer = with_epoch(bench.init("x"), epoch);
        bench.change("x", |document| document.epoch = epoch);
        bench.append("x", producer, 0, 0);
        let next = bench.init("x");
        assert_eq!((next.epoch, next.id == producer.id), (next_epoch, next_epoch != 0), "{epoch}");
        assert_eq!(bench.producer(producer.id, 0).unwrap().epoch, marker, "{epoch}");
    }
}

#[test]
fn in_version_2_each_end_gives_the_next_epoch_and_a_repeated_one_the_same() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let mut producer = bench.init("x");
        for round in 0..3 {
            bench.append("x", producer, 0, 0);
            let next = bench.end("x", producer, commit, 2).unwrap();
            assert_eq!(next, with_epoch(producer, round + 1));
            let end = bench.log(0).end;
            assert_eq!(bench.end("x", producer, commit, 2), Ok(next), "repeated");
            assert_eq!(bench.end("x", producer, !commit, 2), Err(ErrorCode::InvalidTxnState), "contradicted");
            assert_eq!(bench.log(0).end, end, "neither has written anything");
            if round > 0 {
                assert_eq!(bench.end("x", with_epoch(producer, round - 1), commit, 2), FENCED, "two back");
            }
            producer = next;
        }
        bench.append("x", producer, 0, 0);
        assert_eq!(bench.end("x", with_epoch(producer, 2), commit, 2), FENCED, "the next one is open");
    }
}

#[test]
fn in_version_2_an_exhausted_epoch_brings_a_new_id_with_the_end() {
    let mut bench = Bench::new();
    let producer = with_epoch(bench.init("x"), TransactionDocument::EPOCH_MAX);
    bench.change("x", |document| document.epoch = producer.epoch);
    bench.append("x", producer, 0, 0);
    let next = bench.end("x", producer, true, 2).unwrap();
    assert_eq!((next.epoch, next.id == producer.id), (0, false));
    assert_eq!(bench.producer(producer.id, 0).unwrap().epoch, i16::MAX, "nobody can write with the old id");
    assert_eq!(bench.end("x", producer, true, 2), Ok(next), "repeated");
    assert_eq!(bench.end("x", producer, false, 2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.try_init("x", Some(producer)), Ok(next), "or asked for otherwise");
    bench.append("x", next, 0, 0);
    assert_eq!(bench.end("x", producer, true, 2), Err(ErrorCode::InvalidProducerIdMapping));
    // In version 1 epochs are not used up.
    let mut bench = Bench::new();
    let producer = with_epoch(bench.init("x"), TransactionDocument::EPOCH_MAX);
    bench.change("x", |document| document.epoch = producer.epoch);
    bench.append("x", producer, 0, 0);
    assert_eq!(bench.end("x", producer, true, 1), Ok(producer));
}

#[test]
fn in_version_1_a_producer_keeps_its_epoch() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    for round in 0..3 {
        bench.add("x", producer, &[0]).unwrap();
        bench.append("x", producer, 0, round);
        let commit = round % 2 == 0;
        assert_eq!(bench.end("x", producer, commit, 1), Ok(producer));
        let repeated = bench.end("x", producer, commit, 1);
        assert_eq!(repeated, Ok(producer));
        assert_eq!(bench.end("x", producer, !commit, 1), Err(ErrorCode::InvalidTxnState));
    }
    assert_eq!(bench.aborted(0), [(2, 3, 4)]);
}

#[test]
fn an_end_writes_a_marker_into_each_partition() {
    for (commit, version, epoch) in [(true, 1, 0), (false, 1, 0), (true, 2, 1), (false, 2, 1)] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.add("x", producer, &[0, 1]).unwrap();
        bench.append("x", producer, 0, 0);
        bench.append("x", producer, 0, 1);
        bench.end("x", producer, commit, version).unwrap();
        let marker = control::marker(producer.id.0, epoch, commit, 0, bench.now_ms);
        for (effect, (partition, offset)) in bench.effects.iter().zip([(0, 2), (1, 0)]) {
            let Effect::Append { partition: written, base_offset, batch, payload, .. } = effect else {
                panic!("{effect:?}")
            };
            assert_eq!((*written, *base_offset, &payload.0), (at(partition), offset, &marker));
            assert_eq!((batch.producer_epoch, batch.record_count), (epoch, 1));
        }
        assert_eq!(bench.effects.len(), 2);
        assert_eq!([0, 1].map(|partition| bench.log(partition).end), [3, 1]);
        assert_eq!([0, 1].map(|partition| bench.log(partition).last_stable()), [3, 1]);
        let aborted = if commit { vec![] } else { vec![(0, 2, 3)] };
        assert_eq!((bench.aborted(0), bench.aborted(1)), (aborted, vec![]), "only where records are");
        for partition in [0, 1] {
            let known = bench.producer(producer.id, partition).unwrap();
            assert_eq!((known.epoch, known.coordinator_epoch), (epoch, Some(0)));
        }
        assert_eq!(bench.log(2).end, 0, "it was not in the transaction");
    }
}

#[test]
fn a_marker_is_as_late_as_the_records_of_its_log() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let append = bench.joining("x", producer, 0, 0);
    let later_ms = bench.now_ms + 5_000;
    bench.appended(Append { batch: append.batch.with_append_time(), now_ms: later_ms, ..append }).unwrap();
    bench.end("x", producer, true, 2).unwrap();
    let [Effect::Append { batch, .. }] = &bench.effects[..] else { panic!("{:?}", bench.effects) };
    assert_eq!((batch.max_timestamp, batch.has_append_time()), (later_ms, true));
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1).into_iter();
    let longer = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    };
    shorter.flat_map(longer).collect()
}

#[test]
fn the_last_stable_offset_is_that_of_the_first_that_is_open_in_any_order_of_ends() {
    let ids = ["a", "b", "c", "d"];
    assert_eq!(orders(4).into_iter().collect::<BTreeSet<_>>().len(), 24);
    for order in orders(4) {
        let mut bench = Bench::new();
        let producers = ids.map(|id| bench.init(id));
        for (offset, (id, producer)) in ids.iter().zip(producers).enumerate() {
            assert_eq!(bench.append(id, producer, 0, 0), offset as i64);
            assert_eq!(bench.log(0).last_stable(), 0);
        }
        let mut open: BTreeSet<usize> = (0..4).collect();
        let mut aborted = Vec::new();
        for (marker, ended) in (4..).zip(&order) {
            let commit = ended % 2 == 0;
            bench.end(ids[*ended], producers[*ended], commit, 2).unwrap();
            open.remove(ended);
            let last_stable = open.first().map_or(marker + 1, |first| *first as i64);
            assert_eq!(bench.log(0).last_stable(), last_stable, "{order:?}");
            if !commit {
                aborted.push((*ended as i64, marker, last_stable));
            }
        }
        assert_eq!(bench.aborted(0), aborted, "{order:?}");
        assert!(bench.all::<OpenTransaction>().is_empty());
    }
}

#[test]
fn an_end_looks_at_no_more_than_it_must() {
    let mut bench = Bench::new();
    let ids = (0..50).map(|number| format!("id-{number}"));
    let producers: Vec<_> = ids.map(|id| (id.clone(), bench.init(&id))).collect();
    for (id, producer) in &producers {
        bench.append(id, *producer, 0, 0);
    }
    let end = |(id, producer): &(String, ProducerIdAndEpoch)| Command::Transaction {
        id: text(id),
        command: TransactionCommand::End(EndTransaction {
            producer: *producer,
            commit: true,
            version: 2,
            now_ms: 1_000_000,
            leader_epoch: 0,
        }),
    };
    let (last, _) = bench.store.cost(&end(&producers[49]));
    assert_eq!(last, 4, "its document, what is in it, the partition and the producer");
    let (first, _) = bench.store.cost(&end(&producers[0]));
    assert_eq!(first, last + 2, "and where the next one begins");
}

#[test]
fn a_deleted_partition_needs_no_marker() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    bench.run(Command::DeleteTopic { id: super::bench::TOPIC }).unwrap();
    assert!(bench.all::<OpenTransaction>().is_empty(), "they go with the log");
    assert!(bench.end("x", producer, true, 2).is_ok());
    assert!(bench.effects.is_empty());
}

#[test]
fn aborted_transactions_are_deleted_with_their_records_some_at_a_time() {
    let mut bench = Bench::new();
    let mut producer = bench.init("x");
    for _ in 0..600 {
        bench.append("x", producer, 0, 0);
        producer = bench.end("x", producer, false, 2).unwrap();
    }
    let at_once = DueKey::at_once(DueSubject::Partition(at(0)));
    let look = Command::Retain(Retain {
        partition: at(0),
        taken_ms: Some(DueKey::AT_ONCE_MS),
        end: 1_200,
        log_start: None,
        next_ms: None,
        after_append: false,
    });
    bench.run(Command::AdvanceLogStart { partition: at(0), offset: 3 }).unwrap();
    assert_eq!((bench.aborted(0).len(), bench.aborted(0)[0]), (599, (2, 3, 4)), "that of offset 3 is there");
    let more = |has_more| Ok(Applied::Retained { has_more });
    assert_eq!(bench.run(look.clone()), more(false));
    assert!(!bench.store.due().contains(&at_once));
    bench.run(Command::AdvanceLogStart { partition: at(0), offset: -1 }).unwrap();
    assert_eq!(bench.aborted(0).len(), 599 - 256);
    assert!(bench.store.due().contains(&at_once), "the rest is looked at");
    assert_eq!(bench.run(look), more(true));
    assert_eq!(bench.aborted(0).len(), 599 - 512);
    assert_eq!(bench.run(Command::ForgetAborted { partition: at(0) }), more(false));
    assert!(bench.all::<AbortedTransaction>().is_empty());
}

fn marker(producer: ProducerIdAndEpoch, coordinator_epoch: i32) -> WriteMarker {
    WriteMarker {
        partition: at(0),
        producer,
        commit: false,
        coordinator_epoch,
        now_ms: 1_000_000,
        leader_epoch: 0,
    }
}

#[test]
fn an_operator_ends_what_hangs_and_nothing_else() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let write =
        |bench: &mut Bench, marker| bench.run(Command::WriteMarker(marker)).map_err(|refused| refused.error);
    assert_eq!(write(&mut bench, marker(producer, 0)), Ok(Applied::MarkerWritten(false)), "nothing is open");
    let elsewhere = WriteMarker { partition: at(9), ..marker(producer, 0) };
    assert_eq!(write(&mut bench, elsewhere), Err(ErrorCode::UnknownTopicOrPartition));
    bench.append("x", producer, 0, 0);
    assert_eq!(write(&mut bench, marker(producer, 0)), Err(ErrorCode::InvalidTxnState), "its id will end it");
    assert_eq!(write(&mut bench, marker(with_epoch(producer, -1), 0)), Err(ErrorCode::InvalidProducerEpoch));
    // By a clock that was ahead: its timeout is far away.
    let ahead = WriteMarker { now_ms: bench.now_ms - 1, ..marker(producer, 0) };
    let mut other = Bench::new();
    let begun = other.init("x");
    other.append("x", begun, 0, 0);
    assert_eq!(write(&mut other, WriteMarker { producer: begun, ..ahead }), Ok(Applied::MarkerWritten(true)));
    // Nobody knows the id any more.
    let of_id = [TransactionDocument::PREFIX, TransactionDue::PREFIX, TransactionPartition::PREFIX];
    bench.store.0.retain(|key, _| !of_id.contains(&key.kind()));
    assert_eq!(write(&mut bench, marker(producer, 3)), Ok(Applied::MarkerWritten(true)));
    assert_eq!(bench.aborted(0), [(0, 1, 2)]);
    assert_eq!(bench.log(0).last_stable(), 2);
    let fenced = write(&mut bench, marker(producer, 2));
    assert_eq!(fenced, Err(ErrorCode::TransactionCoordinatorFenced));
    assert_eq!(write(&mut bench, marker(producer, 3)), Ok(Applied::MarkerWritten(false)), "repeated");
    let stray = Append::new(at(0), &batch(producer, 1), 0);
    assert_eq!(bench.appended(stray), Ok(2), "the producer goes on in its epoch");
}
