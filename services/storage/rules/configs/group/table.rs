//! Every config of groups of Kafka 4.4 (KIP-848, KIP-932, KIP-1071), and Yagura's support for it.
//!
//! Names, types, defaults, legal values and bounds are those that `GroupConfig` of Kafka 4.4.0 and its broker have.

use super::config::{Bounds, CONSUMER_HEARTBEAT, CONSUMER_SESSION, GroupConfig, STREAMS_ASSIGNOR};
use crate::configs::kind::ConfigKind::{self, Boolean, Int, List, Long, String as Text};
use crate::configs::value::Legal::{self, Any, AtLeast, AutoOffsetReset, OneOf, Tags};

/// The only assignor of streams groups that a broker of Kafka has.
pub(super) const STREAMS_ASSIGNORS: &str = "sticky";
/// The topic for what a share group cannot deliver.
pub(super) const DEAD_LETTER_TOPIC: &str = "errors.deadletterqueue.topic.name";

const AT_ONCE: &str = "Yagura assigns as soon as members, subscriptions or topics have changed";
const ALWAYS_ASIDE: &str = "Yagura always computes assignments aside";
const NO_SHARE_GROUPS: &str = "Yagura has no share groups";
const NO_STREAMS_GROUPS: &str = "Yagura has no streams groups";

const ISOLATION: Legal = OneOf(&["read_committed", "read_uncommitted"]);
const SESSION: Bounds = Bounds::Range(45_000, 60_000);
const HEARTBEAT: Bounds = Bounds::Range(5_000, 15_000);
const ASSIGNMENT: Bounds = Bounds::Range(0, 15_000);

/// All configs of groups, sorted by name.
pub fn group_configs() -> &'static [GroupConfig] {
    &GROUP_CONFIGS
}

/// The config of this name.
pub fn find(name: &str) -> Option<&'static GroupConfig> {
    let at = GROUP_CONFIGS.binary_search_by(|config| config.name.cmp(name)).ok()?;
    GROUP_CONFIGS.get(at)
}

const fn config(kind: ConfigKind, name: &'static str, default: &'static str, legal: Legal) -> GroupConfig {
    GroupConfig::new(kind, name, default, legal)
}

static GROUP_CONFIGS: [GroupConfig; 27] = [
    config(Int, "consumer.assignment.interval.ms", "1000", AtLeast(0))
        .within(ASSIGNMENT)
        .no_effect(AT_ONCE)
        .says("How long a consumer group keeps an assignment before it gets the next one."),
    config(Boolean, "consumer.assignor.offload.enable", "true", Any)
        .internal()
        .no_effect(ALWAYS_ASIDE)
        .says("Whether assignments of a consumer group are computed aside."),
    config(Int, CONSUMER_HEARTBEAT, "5000", AtLeast(1))
        .within(HEARTBEAT)
        .says("How often a member of a consumer group sends a heartbeat (KIP-848)."),
    config(Int, CONSUMER_SESSION, "45000", AtLeast(1))
        .within(SESSION)
        .says("How long a member of a consumer group may be silent before it is removed (KIP-848)."),
    config(Boolean, "errors.deadletterqueue.copy.record.enable", "false", Any)
        .of_groups_alone()
        .no_effect(NO_SHARE_GROUPS)
        .says("Whether records that cannot be delivered are copied whole."),
    config(Text, DEAD_LETTER_TOPIC, "", Any)
        .of_groups_alone()
        .no_effect(NO_SHARE_GROUPS)
        .says("The topic for records that cannot be delivered; empty for none."),
    config(Int, "share.assignment.interval.ms", "1000", AtLeast(0))
        .within(ASSIGNMENT)
        .no_effect(NO_SHARE_GROUPS)
        .says("How long a share group keeps an assignment before it gets the next one."),
    config(Boolean, "share.assignor.offload.enable", "true", Any)
        .internal()
        .no_effect(NO_SHARE_GROUPS)
        .says("Whether assignments of a share group are computed aside."),
    config(Text, "share.auto.offset.reset", "latest", AutoOffsetReset)
        .of_groups_alone()
        .no_effect(NO_SHARE_GROUPS)
        .says("Where a share group begins to read a partition."),
    config(Int, "share.delivery.count.limit", "5", AtLeast(2))
        .within(Bounds::Range(2, 10))
        .no_effect(NO_SHARE_GROUPS)
        .says("How often a share group tries to deliver a record."),
    config(Int, "share.heartbeat.interval.ms", "5000", AtLeast(1))
        .within(HEARTBEAT)
        .no_effect(NO_SHARE_GROUPS)
        .says("How often a member of a share group sends a heartbeat."),
    config(Text, "share.isolation.level", "read_uncommitted", ISOLATION)
        .of_groups_alone()
        .no_effect(NO_SHARE_GROUPS)
        .says("Whether a share group gets records of transactions that are not committed."),
    config(Int, "share.partition.max.record.locks", "2000", AtLeast(100))
        .within(Bounds::Range(100, 4_000))
        .no_effect(NO_SHARE_GROUPS)
        .says("How many records of a partition a share group may have acquired at once."),
    config(Int, "share.record.lock.duration.ms", "30000", AtLeast(1_000))
        .within(Bounds::Range(15_000, 60_000))
        .no_effect(NO_SHARE_GROUPS)
        .says("How long a member of a share group has a record that it acquired."),
    config(Boolean, "share.renew.acknowledge.enable", "true", Any)
        .of_groups_alone()
        .no_effect(NO_SHARE_GROUPS)
        .says("Whether a member of a share group may keep a record for longer."),
    config(Int, "share.session.timeout.ms", "45000", AtLeast(1))
        .within(SESSION)
        .no_effect(NO_SHARE_GROUPS)
        .says("How long a member of a share group may be silent before it is removed."),
    config(Long, "streams.acceptable.recovery.lag", "10000", AtLeast(0))
        .internal()
        .no_effect(NO_STREAMS_GROUPS)
        .says("How many records behind a task may be and still become active."),
    config(Int, "streams.assignment.interval.ms", "1000", AtLeast(0))
        .within(ASSIGNMENT)
        .no_effect(NO_STREAMS_GROUPS)
        .says("How long a streams group keeps an assignment before it gets the next one."),
    config(Text, STREAMS_ASSIGNOR, "sticky", Any)
        .no_effect(NO_STREAMS_GROUPS)
        .says("The assignor of a streams group."),
    config(Boolean, "streams.assignor.offload.enable", "true", Any)
        .internal()
        .no_effect(NO_STREAMS_GROUPS)
        .says("Whether assignments of a streams group are computed aside."),
    config(Int, "streams.heartbeat.interval.ms", "5000", AtLeast(1))
        .within(HEARTBEAT)
        .no_effect(NO_STREAMS_GROUPS)
        .says("How often a member of a streams group sends a heartbeat."),
    config(Int, "streams.initial.rebalance.delay.ms", "3000", AtLeast(0))
        .no_effect(NO_STREAMS_GROUPS)
        .says("How long a new streams group waits for more members."),
    config(Int, "streams.num.standby.replicas", "0", AtLeast(0))
        .within(Bounds::AtMost(2))
        .no_effect(NO_STREAMS_GROUPS)
        .says("How many standby replicas a task has."),
    config(Int, "streams.num.warmup.replicas", "2", AtLeast(0))
        .internal()
        .within(Bounds::AtMost(20))
        .no_effect(NO_STREAMS_GROUPS)
        .says("How many tasks may warm up at once."),
    config(List, "streams.rack.aware.assignment.tags", "", Tags)
        .no_effect(NO_STREAMS_GROUPS)
        .says("The client tags by which standby replicas are spread."),
    config(Int, "streams.session.timeout.ms", "45000", AtLeast(1))
        .within(SESSION)
        .no_effect(NO_STREAMS_GROUPS)
        .says("How long a member of a streams group may be silent before it is removed."),
    config(Int, "streams.task.offset.interval.ms", "60000", AtLeast(1))
        .internal()
        .within(Bounds::AtLeast(15_000))
        .no_effect(NO_STREAMS_GROUPS)
        .says("How often a client tells how far its tasks have warmed up."),
];
