//! Every state of a transactional id, with every command of its producer and of others.

use kernel::{ErrorCode, ProducerId};

use super::bench::{Bench, with_epoch};
use crate::commands::{IfNotAdded, Outcome, ProducerIdAndEpoch};
use crate::documents::TransactionState;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Known(TransactionState),
}

const STATES: [State; 5] = [
    State::Unknown,
    State::Known(TransactionState::Empty),
    State::Known(TransactionState::Ongoing),
    State::Known(TransactionState::CompleteCommit),
    State::Known(TransactionState::CompleteAbort),
];

/// A store in which "x" is in a state, its producer, and the sequence number of its next batch.
fn in_state(state: State) -> (Bench, ProducerIdAndEpoch, i32) {
    let mut bench = Bench::new();
    let State::Known(state) = state else {
        return (bench, ProducerIdAndEpoch { id: ProducerId(9), epoch: 0 }, 0);
    };
    let producer = bench.init("x");
    if state == TransactionState::Empty {
        return (bench, producer, 0);
    }
    bench.add("x", producer, &[0]).unwrap();
    bench.append("x", producer, 0, 0);
    if state != TransactionState::Ongoing {
        bench.end("x", producer, state == TransactionState::CompleteCommit, 1).unwrap();
    }
    assert_eq!(bench.document("x").state, state);
    (bench, producer, 1)
}

#[derive(Debug, Clone, Copy)]
enum Call {
    AddPartitions,
    AddGroup,
    Append(IfNotAdded),
    CommitOffsets(IfNotAdded),
    End { commit: bool, version: i16 },
    Init,
    InitAgain,
}

fn error(outcome: Outcome) -> Option<ErrorCode> {
    outcome.err().map(|refused| refused.error)
}

fn call(bench: &mut Bench, call: Call, producer: ProducerIdAndEpoch, sequence: i32) -> Option<ErrorCode> {
    match call {
        Call::AddPartitions => error(bench.add("x", producer, &[1])),
        Call::AddGroup => error(bench.add_group("x", producer, "g")),
        Call::Append(if_not_added) => {
            let mut append = bench.joining("x", producer, 0, sequence);
            append.transaction.as_mut().unwrap().if_not_added = if_not_added;
            bench.appended(append).err()
        }
        Call::CommitOffsets(if_not_added) => {
            let mut commit = bench.offsets(producer, 5);
            commit.if_not_added = if_not_added;
            bench.commit_offsets("x", commit)
        }
        Call::End { commit, version } => bench.end("x", producer, commit, version).err(),
        Call::Init => bench.try_init("x", None).err(),
        Call::InitAgain => bench.try_init("x", Some(producer)).err(),
    }
}

const UNKNOWN: Option<ErrorCode> = Some(ErrorCode::InvalidProducerIdMapping);
const STATE: Option<ErrorCode> = Some(ErrorCode::InvalidTxnState);
const ABORTABLE: Option<ErrorCode> = Some(ErrorCode::TransactionAbortable);

#[test]
fn every_call_of_the_current_producer_in_every_state() {
    let end = |commit, version| Call::End { commit, version };
    // In the order of the states: unknown, empty, ongoing, committed, aborted.
    let rows = [
        (Call::AddPartitions, [UNKNOWN, None, None, None, None]),
        (Call::AddGroup, [UNKNOWN, None, None, None, None]),
        (Call::Append(IfNotAdded::Join), [UNKNOWN, None, None, None, None]),
        (Call::Append(IfNotAdded::RefuseAbortable), [UNKNOWN, ABORTABLE, None, ABORTABLE, ABORTABLE]),
        (Call::Append(IfNotAdded::Refuse), [UNKNOWN, STATE, None, STATE, STATE]),
        (Call::CommitOffsets(IfNotAdded::Join), [UNKNOWN, None, None, None, None]),
        (
            Call::CommitOffsets(IfNotAdded::RefuseAbortable),
            [UNKNOWN, ABORTABLE, ABORTABLE, ABORTABLE, ABORTABLE],
        ),
        (Call::CommitOffsets(IfNotAdded::Refuse), [UNKNOWN, STATE, STATE, STATE, STATE]),
        (end(true, 1), [UNKNOWN, STATE, None, None, STATE]),
        (end(false, 1), [UNKNOWN, STATE, None, STATE, None]),
        (end(true, 2), [UNKNOWN, STATE, None, STATE, STATE]),
        (end(false, 2), [UNKNOWN, None, None, None, None]),
        (Call::Init, [None; 5]),
        (Call::InitAgain, [None; 5]),
    ];
    for (tried, expected) in rows {
        for (state, expected) in STATES.into_iter().zip(expected) {
            let (mut bench, producer, sequence) = in_state(state);
            assert_eq!(call(&mut bench, tried, producer, sequence), expected, "{tried:?} in {state:?}");
        }
    }
}

#[test]
fn producers_that_are_not_current_are_fenced_in_every_state() {
    let fenced = Some(ErrorCode::ProducerFenced);
    let old = Some(ErrorCode::InvalidProducerEpoch);
    let rows = [
        (Call::AddPartitions, fenced),
        (Call::AddGroup, fenced),
        (Call::Append(IfNotAdded::Join), old),
        (Call::Append(IfNotAdded::Refuse), old),
        (Call::CommitOffsets(IfNotAdded::Join), old),
        (Call::CommitOffsets(IfNotAdded::Refuse), old),
        (Call::End { commit: true, version: 1 }, fenced),
        (Call::End { commit: false, version: 1 }, fenced),
        (Call::End { commit: true, version: 2 }, fenced),
        (Call::End { commit: false, version: 2 }, fenced),
        (Call::InitAgain, fenced),
    ];
    for (tried, expected) in rows {
        for state in STATES.into_iter().skip(1) {
            let (_, producer, sequence) = in_state(state);
            // Neither is the epoch before: in version 2 a call with that is a repeated one.
            for epoch in [producer.epoch - 2, producer.epoch + 5] {
                let (mut bench, _, _) = in_state(state);
                let before = bench.store.0.clone();
                let other = with_epoch(producer, epoch);
                let got = call(&mut bench, tried, other, sequence);
                assert_eq!(got, expected, "{tried:?} in {state:?} with {epoch}");
                assert_eq!(bench.store.0, before, "nothing has changed");
            }
            let (mut bench, _, _) = in_state(state);
            let stranger = ProducerIdAndEpoch { id: ProducerId(producer.id.0 + 1), ..producer };
            let of_stranger = if matches!(tried, Call::InitAgain) { fenced } else { UNKNOWN };
            assert_eq!(call(&mut bench, tried, stranger, sequence), of_stranger, "{tried:?} in {state:?}");
        }
    }
}
