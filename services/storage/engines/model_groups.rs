//! Random group commands for the engine model test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicId;
use kernel::ports::TopicFacts;
use rules::commands::{
    Advance, Command, CommittedOffset, ConsumerHeartbeat, ConsumerLeave, GroupCommand, InstallTarget, Join,
    KnownTopics, MemberIdentity, ResolvedRegex, Sync,
};
use rules::documents::{ASSIGNORS, Blob, MemberProtocol, OffsetDocument, Partitions};

use super::model_tests::{Dice, TOPICS};

/// The groups of the test.
pub(super) const GROUPS: [&str; 3] = ["g", "h/1", ""];
const MEMBERS: [&str; 5] = ["", "m1", "m2", "m3", "m4"];

/// A member joins a group of the classic protocol.
pub(super) fn join_as(group: &str, member: &str) -> Command {
    let join = Dice::seeded(1).join(&[TopicId(uuid::Uuid::nil())], 0);
    let join = Join {
        member: MemberIdentity::default(),
        fresh_id: Arc::from(member),
        requires_known_id: false,
        protocol_type: Arc::from("consumer"),
        protocols: vec![MemberProtocol { name: Arc::from("range"), metadata: Blob::default() }],
        ..join
    };
    Command::Group { group: Arc::from(group), command: GroupCommand::Join(Box::new(join)) }
}

impl Dice {
    pub(super) fn group_command(&mut self, ids: &[TopicId], step: usize) -> Command {
        let now_ms = 10 * step as i64;
        let command = match self.roll(19) {
            0 | 1 => GroupCommand::Join(Box::new(self.join(ids, now_ms))),
            2 => GroupCommand::Sync(Box::new(Sync {
                member: self.member(),
                protocol_type: None,
                protocol: None,
                assignments: MEMBERS
                    .iter()
                    .map(|id| (Arc::from(*id), Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff")))
                    .collect(),
                now_ms,
            })),
            3 => GroupCommand::Leave { members: vec![self.member(), self.member()], now_ms, wall_ms: now_ms },
            // A lease of a member that joined at some step: now and then one matches.
            4 => GroupCommand::Tick {
                now_ms,
                wall_ms: now_ms,
                timed_out: MEMBERS
                    .iter()
                    .map(|id| (Arc::from(*id), now_ms - 10 * self.roll(8) as i64))
                    .collect(),
            },
            5 => GroupCommand::CommitOffsets {
                member: self.member(),
                offsets: vec![self.offset(ids, now_ms)],
                knows_epochs: self.roll(2) == 0,
                now_ms,
            },
            6 => GroupCommand::DeleteOffsets { offsets: vec![(self.topic(), 0), (self.topic(), 1)] },
            7 => GroupCommand::ExpireOffsets {
                now_ms,
                retention_ms: 200,
                deleted_topics: BTreeSet::from([self.pick(ids)]),
            },
            8 => GroupCommand::ConsumerLeave(self.leave(now_ms)),
            9 | 10 => GroupCommand::ConsumerHeartbeat(Box::new(self.heartbeat(ids, now_ms))),
            11 | 12 => GroupCommand::InstallTarget(self.target(ids, now_ms)),
            13 | 14 => GroupCommand::Advance(Box::new(self.advance(ids, now_ms))),
            15 => GroupCommand::Index,
            16 => GroupCommand::Resume { now_ms },
            17 => GroupCommand::RenewLeases {
                heard: MEMBERS.iter().map(|id| (Arc::from(*id), now_ms - self.roll(50) as i64)).collect(),
            },
            _ => GroupCommand::Delete,
        };
        Command::Group { group: Arc::from(self.pick(&GROUPS)), command }
    }

    pub(super) fn member(&mut self) -> MemberIdentity {
        let instance_id = (self.roll(4) == 0).then(|| Arc::from(self.pick(&["i1", "i2"])));
        MemberIdentity {
            id: Arc::from(self.pick(&MEMBERS)),
            instance_id,
            generation: self.roll(5) as i32 - 1,
        }
    }

    fn leave(&mut self, now_ms: i64) -> ConsumerLeave {
        let MemberIdentity { id: member_id, instance_id, generation } = self.member();
        ConsumerLeave { member_id, instance_id, member_epoch: generation - 2, now_ms }
    }

    /// A target for some members, for an epoch that the group may have.
    fn target(&mut self, ids: &[TopicId], now_ms: i64) -> InstallTarget {
        let count = self.roll(3) as usize;
        let mut target = |_| {
            let partitions = Partitions::from([(self.pick(ids), BTreeSet::from([0, self.roll(3) as i32]))]);
            (Arc::<str>::from(self.pick(&MEMBERS[1..])), Arc::new(partitions))
        };
        let members: BTreeMap<_, _> = (0..count).map(&mut target).collect();
        // A new group begins in epoch 1, and one that was classic may begin in epoch 0.
        let (epoch, base_epoch) = (self.roll(9) as i32, self.roll(5) as i32);
        InstallTarget { epoch, base_epoch, members, now_ms }
    }

    fn advance(&mut self, ids: &[TopicId], now_ms: i64) -> Advance {
        let owned = Partitions::from([(self.pick(ids), BTreeSet::from([0]))]);
        Advance {
            member_id: Arc::from(self.pick(&MEMBERS[1..])),
            member_epoch: self.roll(5) as i32,
            owned: (self.roll(2) == 0).then_some(owned),
            is_full: self.roll(2) == 0,
            awaited_epoch: self.roll(9) as i32,
            waits_for_target: self.roll(2) == 0,
            now_ms,
        }
    }

    /// The known topics: usually all, sometimes none.
    fn known_topics(&mut self, ids: &[TopicId]) -> KnownTopics {
        let mut known = KnownTopics::default();
        if self.roll(8) != 0 {
            let names = BTreeSet::from(TOPICS.map(Arc::<str>::from));
            let topic = |name: &Arc<str>| {
                let (id, partitions) = (self.pick(ids), self.roll(4) as i32);
                TopicFacts { name: Arc::clone(name), id, partitions }
            };
            let found = names.iter().take(4).map(topic).collect();
            known.add(&names, found);
        }
        known
    }

    fn heartbeat(&mut self, ids: &[TopicId], now_ms: i64) -> ConsumerHeartbeat {
        let topics = BTreeSet::from([self.topic(), self.topic()]);
        let owned = Partitions::from([(self.pick(ids), BTreeSet::from([0, 1]))]);
        let regex: Option<Arc<str>> = (self.roll(4) == 0).then(|| Arc::from("t.*"));
        let MemberIdentity { id: member_id, instance_id, generation } = self.member();
        ConsumerHeartbeat {
            member_id,
            instance_id,
            member_epoch: generation.max(0),
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            rack: None,
            rebalance_timeout_ms: Some(self.pick(&[0, 50])),
            topics: Some(topics.clone()),
            resolved_regexes: regex
                .iter()
                .map(|regex| ResolvedRegex { regex: Arc::clone(regex), topics: topics.clone() })
                .collect(),
            regex,
            assignor: (self.roll(2) == 0).then(|| Arc::from(self.pick(&ASSIGNORS))),
            owned: (self.roll(2) == 0).then_some(owned),
            session_timeout_ms: self.pick(&[30, 300]),
            members_max: 3,
            known_topics: self.known_topics(ids),
            topics_are_current: self.roll(4) == 0,
            now_ms,
        }
    }

    fn join(&mut self, ids: &[TopicId], now_ms: i64) -> Join {
        let protocol = |name: &str| MemberProtocol {
            name: Arc::from(name),
            // A subscription to topic "a", so that the group can be upgraded to the consumer protocol.
            metadata: Blob(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\xff\xff\xff\xff")),
        };
        Join {
            member: self.member(),
            fresh_id: Arc::from(self.pick(&MEMBERS[1..])),
            requires_known_id: self.roll(2) == 0,
            can_skip_assignment: self.roll(2) == 0,
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: self.pick(&[30, 300]),
            rebalance_timeout_ms: self.pick(&[0, 50]),
            protocol_type: Arc::from(self.pick(&["consumer", "consumer", "connect"])),
            protocols: self.pick(&[vec![protocol("range")], vec![protocol("sticky"), protocol("range")]]),
            initial_delay_ms: self.pick(&[0, 20]),
            members_max: 3,
            known_topics: self.known_topics(ids),
            now_ms,
        }
    }

    pub(super) fn offset(&mut self, ids: &[TopicId], now_ms: i64) -> CommittedOffset {
        let document = OffsetDocument {
            topic_id: self.pick(ids),
            offset: self.roll(100) as i64,
            leader_epoch: -1,
            metadata: Arc::from(self.pick(&["", "words"])),
            committed_ms: now_ms,
            expires_ms: (self.roll(4) == 0).then_some(now_ms + 50),
            revision: 0,
            sent_after: None,
            sent_as: 0,
        };
        CommittedOffset { topic: self.topic(), partition: self.roll(2) as i32, document }
    }
}
