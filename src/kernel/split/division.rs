//! A call divided into parts, and the merge of their replies.

use bytes::Bytes;

use super::key::ItemKey;
use crate::api::Api;
use crate::malformed::Malformed;
use crate::reply::Reply;
use crate::schema::walk::Found;

/// A call to be divided.
pub struct Whole<'a> {
    /// Its version.
    pub version: i16,
    /// Its body, whose bounds have been checked.
    pub body: &'a Bytes,
    /// Whether it is for all topics (see [`Splitter::is_for_all`]).
    pub is_for_all: bool,
    /// The owner of an item.
    pub owner: &'a dyn Fn(&ItemKey) -> usize,
    /// All owners, for a call for all topics.
    pub owners: &'a [usize],
}

/// The part of a call for one owner.
#[derive(Debug)]
pub struct Part {
    /// The owner; no two parts have the same.
    pub owner: usize,
    /// The body, at the version of the call.
    pub body: Bytes,
}

/// Merges the bodies of the parts' replies, in the order of the parts.
pub(super) type Merge =
    Box<dyn FnOnce(Vec<Bytes>, &dyn Fn(&ItemKey) -> usize) -> Result<Bytes, Malformed> + Send>;

/// A call divided into parts.
pub struct Division {
    /// The parts.
    pub parts: Vec<Part>,
    /// Makes one reply of theirs.
    pub merger: Merger,
}

/// Merges the replies of the parts of one call.
pub struct Merger(pub(super) Merge);

impl Merger {
    /// The reply to the whole call, from the replies of all its parts in the order of the parts.
    ///
    /// It mutes for the longest time that a part asks for, and closes if one does.
    ///
    /// # Errors
    /// A reply is not a response of the API.
    pub fn merge(self, replies: Vec<Reply>, owner: &dyn Fn(&ItemKey) -> usize) -> Result<Reply, Malformed> {
        let (mut bodies, mut rest) = (Vec::with_capacity(replies.len()), Reply::default());
        for reply in replies {
            bodies.push(reply.body);
            rest.mute = rest.mute.max(reply.mute);
            rest.close |= reply.close;
            rest.lease.join(reply.lease);
        }
        let Reply { mute, close, lease, .. } = rest;
        Ok(Reply { mute, close, lease, ..Reply::new((self.0)(bodies, owner)?) })
    }
}

/// How calls of an API are split.
pub struct Splitter {
    /// The API.
    pub api: Api,
    /// Whether this value in a request of this version says that the request is for all topics.
    pub is_for_all: fn(i16, &Found<'_>) -> bool,
    pub(super) divide: fn(&Whole<'_>) -> Result<Division, Malformed>,
}

impl Splitter {
    /// Divides a call. Its items keep their order within a part.
    ///
    /// # Errors
    /// The body is not a request of the API.
    pub fn divide(&self, whole: &Whole<'_>) -> Result<Division, Malformed> {
        (self.divide)(whole)
    }
}
