//! Appends in a transaction and beside it.

use std::sync::Arc;

use kernel::ErrorCode;

use super::bench::{Bench, TOPIC, at, batch, producer_key, with_epoch};
use crate::commands::{Append, Applied, BatchFacts, Command};
use crate::documents::{
    LogTransactionKey, OpenTransaction, ProducerDocument, TransactionPartition, TransactionPartitionKey,
    TransactionState,
};

#[test]
fn the_first_batch_joins_its_partition_and_opens_its_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let before = Append::new(at(0), &batch(with_epoch(producer, -1), -1), 0);
    let nobody = BatchFacts { producer_id: -1, ..before.batch };
    bench.appended(Append { batch: nobody, ..before }).unwrap();
    assert_eq!(bench.log(0).last_stable(), 1);
    assert_eq!([0, 1].map(|sequence| bench.append("x", producer, 0, sequence)), [1, 2]);
    assert_eq!((bench.log(0).end, bench.log(0).last_stable()), (3, 1));
    let document = bench.document("x");
    assert_eq!((document.state, document.version), (TransactionState::Ongoing, 2));
    assert_eq!(document.started_ms, Some(bench.now_ms));
    let key = LogTransactionKey { partition: at(0), offset: 1, producer: producer.id };
    assert_eq!(bench.all::<OpenTransaction>(), [key]);
    let open = bench.store.get::<OpenTransaction>(&key).unwrap();
    assert_eq!((&*open.transactional_id, open.epoch, open.started_ms), ("x", 0, bench.now_ms));
    let joined = TransactionPartitionKey { transaction: Arc::from("x"), partition: at(0) };
    assert_eq!(bench.all::<TransactionPartition>(), [joined]);
    let started_ms = bench.now_ms;
    bench.now_ms += 5;
    bench.append("x", producer, 1, 0);
    let document = bench.document("x");
    assert_eq!((document.started_ms, document.updated_ms), (Some(started_ms), bench.now_ms), "it goes on");
}

#[test]
fn a_batch_of_a_joined_partition_costs_no_more_than_reading_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    let next = Command::Append(bench.joining("x", producer, 0, 1));
    assert_eq!(bench.store.cost(&next), (4, 2), "log and producer are written, as outside a transaction");
    let beside = Command::Append(bench.joining("x", producer, 1, 0));
    let (needed, _) = bench.store.cost(&beside);
    assert_eq!(needed, 4);
}

#[test]
fn a_repeated_batch_is_known() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    let again = bench.joining("x", producer, 0, 0);
    let outcome = bench.run(Command::Append(again)).unwrap();
    assert!(matches!(outcome, Applied::Appended { base_offset: 0, is_duplicate: true, .. }), "{outcome:?}");
    assert_eq!(bench.log(0).end, 1);
}

/// A client that has lost the answer, and has aborted, gives its sequence numbers to other records: it must not be told that
/// these are there.
#[test]
fn what_was_aborted_is_not_repeated() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.append("x", producer, 0, 0);
        bench.append("x", producer, 0, 1);
        bench.end("x", producer, commit, 1).unwrap();
        bench.add("x", producer, &[0]).unwrap();
        for sequence in [0, 1] {
            let same = bench.joining("x", producer, 0, sequence);
            let expected =
                if commit { Ok(i64::from(sequence)) } else { Err(ErrorCode::OutOfOrderSequenceNumber) };
            assert_eq!(bench.appended(same), expected);
        }
        assert_eq!(bench.append("x", producer, 0, 2), 3, "it goes on");
    }
}

#[test]
fn a_transactional_batch_needs_a_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let append = bench.joining("x", producer, 0, 0);
    let without = Append { transaction: None, ..append.clone() };
    assert_eq!(bench.appended(without), Err(ErrorCode::TransactionalIdAuthorizationFailed));
    let foreign = Append { origin: Some(Arc::from("other")), ..append.clone() };
    assert_eq!(bench.appended(foreign), Err(ErrorCode::InvalidProducerIdMapping));
    let nowhere = Append { partition: at(7), ..append.clone() };
    assert_eq!(bench.appended(nowhere), Err(ErrorCode::UnknownTopicOrPartition));
    let late = bench.joining("x", producer, 0, 3);
    assert_eq!(bench.appended(late), Err(ErrorCode::OutOfOrderSequenceNumber), "it begins at 0");
    assert_eq!(bench.document("x").state, TransactionState::Empty, "nothing of that has begun one");
    assert_eq!(bench.appended(append), Ok(0));
    bench.run(Command::DeleteTopic { id: TOPIC }).unwrap();
    let deleted = bench.joining("x", producer, 0, 1);
    assert_eq!(bench.appended(deleted), Err(ErrorCode::UnknownTopicOrPartition));
}

#[test]
fn a_producer_writes_nothing_beside_its_open_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    let beside = |epoch, sequence| Append::new(at(0), &batch(with_epoch(producer, epoch), sequence), 0);
    assert_eq!(bench.appended(beside(0, 1)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.appended(beside(1, 0)), Err(ErrorCode::InvalidTxnState), "whatever its epoch");
    assert_eq!(bench.appended(beside(0, 5)), Err(ErrorCode::OutOfOrderSequenceNumber), "that comes first");
    let elsewhere = Append { partition: at(1), ..beside(0, 0) };
    assert_eq!(bench.appended(elsewhere), Ok(0), "a partition that it is not in");
    // A request with a transactional id may have other batches.
    let stated = bench.joining("x", producer, 2, 0);
    let plain = Append { batch: beside(0, 0).batch, ..stated };
    assert_eq!(bench.appended(plain), Ok(0));
    assert_eq!(bench.log(2).first_unstable, None);
}

#[test]
fn the_epoch_after_a_marker_begins_with_sequence_number_0() {
    let mut bench = Bench::new();
    let first = bench.init("x");
    bench.append("x", first, 0, 0);
    let second = bench.end("x", first, true, 2).unwrap();
    let late = bench.joining("x", first, 0, 1);
    assert_eq!(bench.appended(late), Err(ErrorCode::InvalidProducerEpoch));
    let wrong = bench.joining("x", second, 0, 1);
    assert_eq!(bench.appended(wrong), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(bench.append("x", second, 0, 0), 2);
    // The same of a partition that had nothing in the transaction but its marker.
    let third = bench.end("x", second, true, 2).unwrap();
    bench.add("x", third, &[1]).unwrap();
    let fourth = bench.end("x", third, true, 2).unwrap();
    let plain = |sequence| Append::new(at(1), &batch(fourth, sequence), 0);
    assert_eq!(bench.appended(plain(1)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(bench.appended(plain(0)), Ok(1));
}

#[test]
fn a_producer_with_an_open_transaction_does_not_expire() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    let key = producer_key(producer.id, at(0));
    let expire = |now_ms| Command::ExpireProducer { producer: key.clone(), taken_ms: None, now_ms };
    let day_ms = ProducerDocument::EXPIRY_MS;
    let later_ms = bench.now_ms + 10 * day_ms;
    assert_eq!(bench.run(expire(later_ms)), Ok(Applied::ProducerExpired(false)));
    let next_ms = bench.store.due().last().unwrap().at_ms;
    assert!(next_ms >= later_ms + day_ms, "it is looked at in a day, not again and again");
    bench.now_ms = later_ms;
    bench.end("x", producer, false, 2).unwrap();
    assert_eq!(bench.run(expire(later_ms + 5)), Ok(Applied::ProducerExpired(false)), "its marker counts");
    assert_eq!(bench.run(expire(later_ms + day_ms)), Ok(Applied::ProducerExpired(true)));
}

#[test]
fn records_of_an_open_transaction_may_be_deleted() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    bench.append("x", producer, 0, 1);
    bench.run(Command::AdvanceLogStart { partition: at(0), offset: 1 }).unwrap();
    assert_eq!(bench.log(0).last_stable(), 1, "it is not before the log start");
    bench.end("x", producer, false, 2).unwrap();
    assert_eq!((bench.log(0).last_stable(), bench.aborted(0)), (3, vec![(0, 2, 3)]));
}
