//! Transaction timeout, and the expiry of transactional ids.

use kernel::ErrorCode;

use super::bench::{Bench, TIMEOUT_MS, text, with_epoch};
use crate::commands::{Applied, Command, Expired, TransactionCommand};
use crate::documents::{TransactionDocument, TransactionDue, TransactionState};

fn expire(bench: &mut Bench) -> Expired {
    let (taken_ms, now_ms) = (bench.document("x").look_ms, bench.now_ms);
    match bench.of("x", TransactionCommand::Expire { taken_ms, now_ms, leader_epoch: 0 }) {
        Ok(Applied::TransactionExpired(expired)) => expired,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_is_aborted_at_its_timeout_once() {
    for version in [1, 2] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.add("x", producer, &[0]).unwrap();
        bench.append("x", producer, 0, 0);
        let begun_ms = bench.now_ms;
        bench.now_ms = begun_ms + i64::from(TIMEOUT_MS) - 1;
        assert_eq!(expire(&mut bench), Expired::Nothing);
        assert_eq!(bench.document("x").state, TransactionState::Ongoing);
        bench.now_ms += 1;
        assert_eq!(expire(&mut bench), Expired::Transaction);
        assert_eq!((bench.log(0).end, bench.aborted(0)), (2, vec![(0, 1, 2)]));
        let document = bench.document("x");
        assert_eq!((document.state, document.epoch), (TransactionState::CompleteAbort, 1));
        assert_eq!(expire(&mut bench), Expired::Nothing, "a repeated look does no harm");
        assert_eq!(bench.log(0).end, 2);
        // If its producer wanted to commit, it is told that it has not.
        let fenced = Err(ErrorCode::ProducerFenced);
        let told = if version == 2 { Err(ErrorCode::InvalidTxnState) } else { fenced };
        assert_eq!(bench.end("x", producer, true, version), told);
        let next = with_epoch(producer, 1);
        let told = if version == 2 { Ok(next) } else { fenced };
        assert_eq!(bench.end("x", producer, false, version), told);
        let late = bench.joining("x", producer, 0, 1);
        assert_eq!(bench.appended(late), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(bench.try_init("x", Some(producer)), Ok(next));
        assert_eq!(bench.init("x"), with_epoch(producer, 2));
    }
}

#[test]
fn the_last_epoch_can_be_fenced_at_its_timeout() {
    let mut bench = Bench::new();
    let producer = with_epoch(bench.init("x"), TransactionDocument::EPOCH_MAX);
    bench.change("x", |document| document.epoch = producer.epoch);
    bench.append("x", producer, 0, 0);
    bench.now_ms += i64::from(TIMEOUT_MS);
    assert_eq!(expire(&mut bench), Expired::Transaction);
    assert_eq!(bench.end("x", producer, true, 2), Err(ErrorCode::ProducerFenced));
    let next = bench.init("x");
    assert_eq!((next.epoch, next.id == producer.id), (0, false));
}

#[test]
fn an_id_that_was_idle_for_seven_days_is_removed() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    bench.now_ms += 5;
    bench.end("x", producer, true, 1).unwrap();
    let ended_ms = bench.now_ms;
    bench.now_ms = ended_ms + TransactionDocument::EXPIRY_MS - 1;
    assert_eq!(expire(&mut bench), Expired::Nothing);
    bench.now_ms += 1;
    assert_eq!(expire(&mut bench), Expired::Id);
    assert!(bench.all::<TransactionDocument>().is_empty() && bench.all::<TransactionDue>().is_empty());
    assert_eq!(bench.end("x", producer, true, 1), Err(ErrorCode::InvalidProducerIdMapping));
    let again = TransactionCommand::Expire { taken_ms: 7, now_ms: bench.now_ms, leader_epoch: 0 };
    assert_eq!(bench.of("x", again), Ok(Applied::TransactionExpired(Expired::Nothing)), "by another broker");
    assert_eq!(bench.try_init("x", Some(producer)).unwrap().epoch, 0);
}

#[test]
fn the_index_is_written_once_per_timeout_not_per_transaction() {
    let mut bench = Bench::new();
    let mut producer = bench.init("x");
    let idle_ms = bench.document("x").look_ms;
    bench.append("x", producer, 0, 0);
    let look_ms = bench.document("x").look_ms;
    assert!(look_ms < idle_ms && look_ms >= bench.now_ms + i64::from(TIMEOUT_MS));
    for _ in 0..10 {
        producer = bench.end("x", producer, true, 2).unwrap();
        bench.now_ms += 100;
        bench.append("x", producer, 0, 0);
        assert_eq!(bench.document("x").look_ms, look_ms, "that is early enough");
    }
    // The entry is found, and moved to when this one times out.
    bench.now_ms = look_ms;
    assert_eq!(expire(&mut bench), Expired::Nothing);
    assert!(bench.document("x").look_ms > look_ms);
    bench.now_ms += 10_000;
    assert_eq!(expire(&mut bench), Expired::Transaction);
}

#[test]
fn a_look_at_an_id_that_has_nothing_due_costs_one_document() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.append("x", producer, 0, 0);
    let look = TransactionCommand::Expire { taken_ms: 0, now_ms: bench.now_ms, leader_epoch: 0 };
    let (needed, _) = bench.store.cost(&Command::Transaction { id: text("x"), command: look });
    assert_eq!(needed, 1);
}
