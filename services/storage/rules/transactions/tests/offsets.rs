//! Offsets that are committed in a transaction.

use std::collections::{BTreeMap, BTreeSet};

use kernel::ErrorCode;

use super::bench::{Bench, simple, text};
use crate::commands::{
    Applied, CommitTransactionOffsets, CommittedOffset, GroupCommand, IfNotAdded, Join, KnownTopics,
    MemberIdentity, ProducerIdAndEpoch,
};
use crate::documents::{
    Blob, Contents, DocumentKind, Due, DueKey, DueSubject, GroupDocument, GroupState, MemberProtocol,
    OffsetDocument, TransactionGroup, TransactionOffset,
};

#[test]
fn offsets_are_pending_until_their_transaction_ends() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.commit_plainly(3);
        bench.now_ms += 10;
        assert_eq!(bench.commit_offsets("x", bench.offsets(producer, 5)), None);
        assert_eq!(bench.commit_offsets("x", bench.offsets(producer, 7)), None, "the last one counts");
        assert_eq!((bench.committed(), bench.pending()), (Some(3), 1));
        bench.end("x", producer, commit, 2).unwrap();
        assert_eq!((bench.committed(), bench.pending()), (Some(if commit { 7 } else { 3 }), 0));
        assert!(bench.all::<TransactionOffset>().is_empty() && bench.all::<TransactionGroup>().is_empty());
        assert!(bench.effects.is_empty(), "a group has no log");
    }
}

#[test]
fn a_group_joins_the_transaction_or_is_added_before() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let refusing = |bench: &Bench| CommitTransactionOffsets {
        if_not_added: IfNotAdded::Refuse,
        ..bench.offsets(producer, 5)
    };
    let commit = refusing(&bench);
    assert_eq!(bench.commit_offsets("x", commit), Some(ErrorCode::InvalidTxnState));
    bench.add_group("x", producer, "other").unwrap();
    let commit = refusing(&bench);
    assert_eq!(bench.commit_offsets("x", commit), Some(ErrorCode::InvalidTxnState), "another group");
    bench.add_group("x", producer, "g").unwrap();
    let commit = refusing(&bench);
    assert_eq!(bench.commit_offsets("x", commit), None);
    bench.end("x", producer, true, 1).unwrap();
    assert_eq!(bench.committed(), Some(5));
    let commit = refusing(&bench);
    assert_eq!(bench.commit_offsets("x", commit), Some(ErrorCode::InvalidTxnState), "it has ended");
}

#[test]
fn two_transactions_may_have_an_offset_pending() {
    let mut bench = Bench::new();
    let (one, other) = (bench.init("x"), bench.init("y"));
    bench.commit_offsets("x", bench.offsets(one, 5));
    bench.now_ms -= 1;
    bench.commit_offsets("y", bench.offsets(other, 6));
    assert_eq!(bench.pending(), 2);
    bench.end("y", other, true, 2).unwrap();
    assert_eq!((bench.committed(), bench.pending()), (Some(6), 1));
    bench.end("x", one, true, 2).unwrap();
    assert_eq!((bench.committed(), bench.pending()), (Some(6), 0), "it was committed before the other");
}

#[test]
fn an_offset_that_was_committed_plainly_since_stays() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.commit_offsets("x", bench.offsets(producer, 5));
    bench.now_ms += 1;
    bench.commit_plainly(9);
    bench.end("x", producer, true, 2).unwrap();
    assert_eq!((bench.committed(), bench.pending()), (Some(9), 0));
}

/// Brokers have different clocks, and people set them.
#[test]
fn the_order_of_offsets_is_not_that_of_clocks() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    for (offset, later_ms) in [(5, 0), (6, -60_000), (7, 3_600_000), (8, -3_600_000)] {
        bench.now_ms += later_ms;
        bench.commit_offsets("x", bench.offsets(producer_of(&bench), offset));
        bench.end("x", producer_of(&bench), true, 2).unwrap();
        assert_eq!(bench.committed(), Some(offset));
    }
    bench.commit_offsets("x", bench.offsets(producer_of(&bench), 9));
    bench.now_ms -= 1_000;
    bench.commit_plainly(10);
    bench.end("x", producer_of(&bench), true, 2).unwrap();
    assert_eq!(bench.committed(), Some(10), "it was committed after the other had been sent");
    assert_eq!(producer.id, producer_of(&bench).id);
}

/// One transaction is open for long, others come and go.
#[test]
fn an_offset_is_as_old_as_when_it_was_sent() {
    let mut bench = Bench::new();
    let (old, mut other) = (bench.init("old"), bench.init("other"));
    bench.commit_offsets("old", bench.offsets(old, 5));
    for offset in [6, 7] {
        bench.now_ms -= 10;
        bench.commit_offsets("other", bench.offsets(other, offset));
        other = bench.end("other", other, true, 2).unwrap();
    }
    assert_eq!(bench.committed(), Some(7));
    bench.end("old", old, true, 2).unwrap();
    assert_eq!((bench.committed(), bench.pending()), (Some(7), 0));
}

fn producer_of(bench: &Bench) -> ProducerIdAndEpoch {
    let document = bench.document("x");
    ProducerIdAndEpoch { id: document.producer_id, epoch: document.epoch }
}

#[test]
fn an_offset_that_is_sent_again_takes_the_place_of_the_one_before() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let mut send = |sizes: &[usize]| {
        let offset = |size: &usize| CommittedOffset {
            topic: text("t"),
            partition: 0,
            document: OffsetDocument { metadata: text(&"m".repeat(*size)), ..bench.offset(5) },
        };
        let offsets = sizes.iter().map(offset).collect();
        let commit = CommitTransactionOffsets { offsets, ..bench.offsets(producer, 5) };
        assert_eq!(bench.commit_offsets("x", commit), None);
        bench.document("x").contents
    };
    let small = send(&[0]);
    for _ in 0..5_000 {
        assert_eq!(send(&[1_000]).bytes, small.bytes + 1_000);
        assert_eq!(send(&[0]), small);
    }
    send(&[1_000]);
    assert_eq!(send(&[0, 4_000, 0, 7]).bytes, small.bytes + 7, "the last one of a request counts");
}

/// What a transaction has in it is changed at once when it ends.
#[test]
fn a_transaction_is_bounded() {
    let abortable = Some(ErrorCode::TransactionAbortable);
    for (count, metadata) in [(Contents::MAX.documents as i32, 0), (1_100, 4_000)] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        let offset = |bench: &Bench, partition| CommittedOffset {
            topic: text("t"),
            partition,
            document: OffsetDocument { metadata: text(&"m".repeat(metadata)), ..bench.offset(5) },
        };
        let commit = |bench: &Bench, partitions: std::ops::Range<i32>| CommitTransactionOffsets {
            offsets: partitions.map(|partition| offset(bench, partition)).collect(),
            ..bench.offsets(producer, 5)
        };
        let all = commit(&bench, 0..count);
        assert_eq!(bench.commit_offsets("x", all), abortable, "{count} of {metadata}");
        assert!(bench.all::<TransactionOffset>().is_empty(), "completely or not at all");
        let fewer = commit(&bench, 0..1_000);
        assert_eq!(bench.commit_offsets("x", fewer.clone()), None);
        let contents = bench.document("x").contents;
        assert_eq!(contents.documents, 1_001, "the group is one");
        assert_eq!(bench.commit_offsets("x", fewer), None);
        assert_eq!(bench.document("x").contents, contents, "the same ones again add nothing");
        let next = bench.end("x", producer, true, 2).unwrap();
        assert!(bench.document("x").contents.is_empty());
        assert!(bench.commit_offsets("x", bench.offsets(next, 6)).is_none());
    }
}

#[test]
fn what_is_deleted_while_it_is_pending_is_not_committed() {
    let delete_offset = GroupCommand::DeleteOffsets { offsets: vec![(text("t"), 0)] };
    for command in [GroupCommand::Delete, delete_offset] {
        let mut bench = Bench::new();
        let producer = bench.init("x");
        bench.commit_offsets("x", bench.offsets(producer, 5));
        bench.of_group(command.clone()).unwrap();
        assert_eq!(bench.pending(), 0, "{command:?}");
        bench.end("x", producer, true, 2).unwrap();
        assert_eq!(bench.committed(), None, "{command:?}");
        assert!(bench.all::<OffsetDocument>().is_empty());
    }
}

fn expire(bench: &mut Bench) -> Option<i64> {
    let now_ms = bench.now_ms;
    let command = GroupCommand::ExpireOffsets { now_ms, retention_ms: 100, deleted_topics: BTreeSet::new() };
    match bench.of_group(command) {
        Ok(Applied::NextExpiry(next_ms)) => next_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_with_a_pending_offset_does_not_expire() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.commit_plainly(3);
    bench.commit_offsets("x", bench.offsets(producer, 5));
    bench.now_ms += 1_000;
    assert_eq!(expire(&mut bench), Some(bench.now_ms + 100), "it is looked at again");
    assert_eq!(bench.committed(), Some(3));
    bench.end("x", producer, false, 2).unwrap();
    assert_eq!(expire(&mut bench), None);
    assert_eq!(bench.committed(), None);
    assert!(bench.all::<GroupDocument>().is_empty(), "the group has gone with its last offset");
    // A group that has only a pending offset.
    bench.now_ms += 1;
    let producer = bench.init("x");
    bench.commit_offsets("x", bench.offsets(producer, 5));
    assert_eq!(expire(&mut bench), Some(bench.now_ms + 100));
    assert_eq!(bench.all::<GroupDocument>(), [text("g")]);
}

#[test]
fn a_committed_offset_is_looked_at_when_it_may_expire() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    bench.commit_offsets("x", bench.offsets(producer, 5));
    let at_once = DueKey::at_once(DueSubject::Offsets(text("g")));
    assert!(bench.store.due().contains(&at_once), "the group is new");
    bench.store.0.retain(|key, _| key.kind() != Due::PREFIX);
    bench.end("x", producer, true, 2).unwrap();
    assert!(bench.store.due().contains(&at_once), "the offset is new");
}

/// Makes "g" a group with a member, which has joined and not synced yet.
fn with_member(bench: &mut Bench) -> MemberIdentity {
    let join = Join {
        member: MemberIdentity::default(),
        fresh_id: text("m"),
        requires_known_id: false,
        can_skip_assignment: false,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: text("consumer"),
        protocols: vec![MemberProtocol { name: text("range"), metadata: Blob(bytes::Bytes::new()) }],
        initial_delay_ms: 0,
        members_max: 10,
        known_topics: KnownTopics::default(),
        now_ms: 0,
    };
    bench.of_group(GroupCommand::Join(Box::new(join))).unwrap();
    bench.of_group(GroupCommand::Tick { now_ms: 1, wall_ms: 1, timed_out: BTreeMap::new() }).unwrap();
    let group = bench.store.get::<GroupDocument>(&text("g")).unwrap();
    assert_eq!(group.state, GroupState::CompletingRebalance);
    MemberIdentity { id: text("m"), instance_id: None, generation: group.generation }
}

#[test]
fn the_member_that_has_read_the_records_must_be_current() {
    let mut bench = Bench::new();
    let producer = bench.init("x");
    let of = |bench: &Bench, member| CommitTransactionOffsets { member, ..bench.offsets(producer, 5) };
    let gone = MemberIdentity { id: text("m"), instance_id: None, generation: 4 };
    let commit = of(&bench, gone);
    assert_eq!(bench.commit_offsets("x", commit), Some(ErrorCode::IllegalGeneration), "no group");
    assert_eq!((bench.pending(), bench.document("x").is_ongoing()), (0, false), "nothing has changed");
    let member = with_member(&mut bench);
    let next = MemberIdentity { generation: member.generation + 1, ..member.clone() };
    let other = MemberIdentity { id: text("n"), ..member.clone() };
    let instance = MemberIdentity { instance_id: Some(text("i")), ..member.clone() };
    for (member, expected) in [
        (next, Some(ErrorCode::IllegalGeneration)),
        (other, Some(ErrorCode::UnknownMemberId)),
        (instance, Some(ErrorCode::UnknownMemberId)),
        // A rebalance is under way, and the generation is still that of the member.
        (member, None),
        // Clients before KIP-447 name no member.
        (simple(), None),
    ] {
        let commit = of(&bench, member.clone());
        assert_eq!(bench.commit_offsets("x", commit), expected, "{member:?}");
    }
    bench.end("x", producer, true, 2).unwrap();
    assert_eq!(bench.committed(), Some(5));
}
