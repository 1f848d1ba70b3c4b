//! Calls divided among several owners of topics, and the merge of their replies.
//!
//! An owner is a service, by an index that means nothing here; who owns an item of a request is the caller's to say.
//! Each owner gets one part: a request of the same API and version with its items, in their order. The merged response
//! has the answers in the order of the request, as Kafka has them, and repeated items as often as one broker would
//! answer them. A response's throttle time is the greatest of the parts', its error code the first that is not 0, and
//! what else stands beside the answers is the default owner's (see [`ItemKey::Nothing`]).
//!
//! A call for all topics goes to all owners, and the topics of an owner that others own by name are left out.
//!
//! An API that can be split is an entry in [`SPLITTERS`]. Fetch is not: its parts wait for each other, and have
//! sessions; see [`fetch`]. There is no I/O here.

mod config_resources;
mod delete_topics;
mod division;
pub mod fetch;
mod items;
mod key;
mod log_dirs;
mod metadata;
mod produce;
mod reassignments;
mod rows;
#[cfg(test)]
mod tests;
mod topic_pages;

pub use division::{Division, Merger, Part, Splitter, Whole};
pub use key::ItemKey;

use crate::api::Api;
use items::splitter;

/// All APIs that can be split, but Fetch.
pub static SPLITTERS: [Splitter; 16] = [
    splitter::<produce::Produce>(),
    splitter::<rows::ListOffsets>(),
    splitter::<metadata::Metadata>(),
    splitter::<rows::CreateTopics>(),
    splitter::<delete_topics::DeleteTopics>(),
    splitter::<rows::DeleteRecords>(),
    splitter::<rows::OffsetForLeaderEpoch>(),
    splitter::<rows::DescribeConfigs>(),
    splitter::<rows::AlterConfigs>(),
    splitter::<log_dirs::DescribeLogDirs>(),
    splitter::<rows::CreatePartitions>(),
    splitter::<rows::IncrementalAlterConfigs>(),
    splitter::<reassignments::ListPartitionReassignments>(),
    splitter::<rows::DescribeProducers>(),
    splitter::<config_resources::ListConfigResources>(),
    topic_pages::SPLITTER,
];

/// How an API is split; `None` if its calls cannot be.
pub fn find(api: Api) -> Option<&'static Splitter> {
    SPLITTERS.iter().find(|splitter| splitter.api == api)
}
