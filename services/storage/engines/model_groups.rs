//! Random changes of groups for the engine model test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicId;

use super::model_tests::Dice;
use crate::rules::Command;
use crate::rules::groups::{
    ASSIGNORS, Beat, Blob, CommittedOffset, GroupChange, Join, Matches, Member, MemberProtocol,
    OffsetDocument, Partitions, Sync,
};

/// The groups that are changed.
pub(super) const GROUPS: [&str; 3] = ["g", "h/1", ""];
const MEMBERS: [&str; 5] = ["", "m1", "m2", "m3", "m4"];

impl Dice {
    pub(super) fn group_command(&mut self, ids: &[TopicId], step: usize) -> Command {
        let now_ms = 10 * step as i64;
        let change = match self.roll(12) {
            0 | 1 => GroupChange::Join(Box::new(self.join(now_ms))),
            2 => GroupChange::Sync(Box::new(Sync {
                member: self.member(),
                protocol_type: None,
                protocol: None,
                assignments: MEMBERS
                    .iter()
                    .map(|id| (Arc::from(*id), Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff")))
                    .collect(),
                now_ms,
            })),
            3 => GroupChange::Leave { members: vec![self.member(), self.member()], now_ms },
            4 => GroupChange::Tick { now_ms, heard: BTreeMap::from([(self.member().id, now_ms + 40)]) },
            5 => GroupChange::CommitOffsets {
                member: self.member(),
                offsets: vec![self.offset(ids, now_ms)],
                knows_epochs: self.roll(2) == 0,
                now_ms,
            },
            6 => GroupChange::DeleteOffsets { offsets: vec![(self.topic(), 0), (self.topic(), 1)] },
            7 => GroupChange::ExpireOffsets { now_ms, retention_ms: 200 },
            8 => GroupChange::EndBeat { member: self.member(), now_ms },
            9 | 10 => GroupChange::Beat(Box::new(self.beat(ids, now_ms))),
            _ => GroupChange::Delete,
        };
        Command::Group { group: Arc::from(self.pick(&GROUPS)), change }
    }

    fn member(&mut self) -> Member {
        let instance_id = (self.roll(4) == 0).then(|| Arc::from(self.pick(&["i1", "i2"])));
        Member { id: Arc::from(self.pick(&MEMBERS)), instance_id, generation: self.roll(5) as i32 - 1 }
    }

    fn beat(&mut self, ids: &[TopicId], now_ms: i64) -> Beat {
        let topics = BTreeSet::from([self.topic(), self.topic()]);
        let owned = Partitions::from([(self.pick(ids), BTreeSet::from([0, 1]))]);
        let regex: Option<Arc<str>> = (self.roll(4) == 0).then(|| Arc::from("t.*"));
        Beat {
            member: self.member(),
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            rack: None,
            rebalance_timeout_ms: Some(self.pick(&[0, 50])),
            topics: Some(topics.clone()),
            matches: regex.clone().map(|regex| Matches { regex, topics }),
            regex,
            assignor: (self.roll(2) == 0).then(|| Arc::from(self.pick(&ASSIGNORS))),
            owned: (self.roll(2) == 0).then_some(owned),
            session_timeout_ms: self.pick(&[30, 300]),
            members_max: 3,
            now_ms,
        }
    }

    fn join(&mut self, now_ms: i64) -> Join {
        let protocol = |name: &str| MemberProtocol {
            name: Arc::from(name),
            // A consumer of topic "a", so that the group can be moved over.
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
            now_ms,
        }
    }

    fn offset(&mut self, ids: &[TopicId], now_ms: i64) -> CommittedOffset {
        let document = OffsetDocument {
            topic_id: self.pick(ids),
            offset: self.roll(100) as i64,
            leader_epoch: -1,
            metadata: Arc::from(self.pick(&["", "words"])),
            committed_ms: now_ms,
            expires_ms: (self.roll(4) == 0).then_some(now_ms + 50),
        };
        CommittedOffset { topic: self.topic(), partition: self.roll(2) as i32, document }
    }
}
