//! The division of a list of items, and the merge of the answers in the order of the request.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::division::{Division, Merger, Part, Splitter, Whole};
use super::key::ItemKey;
use crate::api::Api;
use crate::call::{decode, encode};
use crate::malformed::Malformed;
use crate::schema::walk::Found;

/// An API whose request is a list of items, each with an owner, and whose response is a list of answers.
pub(super) trait ItemsApi: 'static {
    /// The API.
    const API: Api;
    /// Its request; what is beside the items is the same in all parts.
    type Request: Decodable + Encodable + Clone;
    /// An item of the request.
    type Item;
    /// Its response.
    type Response: Decodable + Encodable;
    /// An answer in the response.
    type Answer;

    /// See [`Splitter::is_for_all`].
    fn is_for_all(_version: i16, _found: &Found<'_>) -> bool {
        false
    }

    /// Takes the items out of a request.
    fn take_items(request: &mut Self::Request) -> Vec<Self::Item>;

    /// Puts the items of a part into its request.
    fn put_items(request: &mut Self::Request, items: Vec<Self::Item>, version: i16);

    /// What an item names.
    fn key(item: &Self::Item) -> ItemKey;

    /// Takes the answers out of a response.
    fn take_answers(response: &mut Self::Response) -> Vec<Self::Answer>;

    /// Puts the answers of all parts into the response.
    fn put_answers(response: &mut Self::Response, answers: Vec<Self::Answer>);

    /// What an answer names: the topic's id or nothing, and its name.
    fn keys(answer: &Self::Answer) -> [ItemKey; 2];

    /// Whether an answer to a call for all topics stays: clients see a topic only in the service that owns its name.
    fn keep(answer: &mut Self::Answer, is_own: &dyn Fn(&ItemKey) -> bool) -> bool {
        is_own(&Self::keys(answer)[1])
    }

    /// Joins the fields of a response beside the answers to those of the default owner's.
    fn join(head: &mut Self::Response, other: Self::Response);
}

/// The splitter of an API.
pub(super) const fn splitter<A: ItemsApi>() -> Splitter {
    Splitter { api: A::API, is_for_all: A::is_for_all, divide: divide::<A> }
}

fn divide<A: ItemsApi>(whole: &Whole<'_>) -> Result<Division, Malformed> {
    if whole.is_for_all {
        return Ok(divide_for_all::<A>(whole));
    }
    let version = whole.version;
    let mut request: A::Request = decode(whole.body, version)?;
    let mut order = RequestOrder::default();
    let mut shares: Vec<(usize, Vec<A::Item>)> = Vec::new();
    for item in A::take_items(&mut request) {
        let key = A::key(&item);
        let owner = (whole.owner)(&key);
        order.push(key);
        match shares.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, share)) => share.push(item),
            None => shares.push((owner, vec![item])),
        }
    }
    let mut parts = Vec::with_capacity(shares.len());
    for (owner, items) in shares {
        let mut part = request.clone();
        A::put_items(&mut part, items, version);
        parts.push(Part { owner, body: encode(&part, version)? });
    }
    let head = head_of(whole, parts.iter().map(|part| part.owner));
    let merger = Merger(Box::new(move |bodies, _| {
        merge::<A>(version, &bodies, head, |answers| {
            order.arrange(answers.into_iter().map(|(_, answer)| answer), A::keys)
        })
    }));
    Ok(Division { parts, merger })
}

/// Every owner gets the whole request.
fn divide_for_all<A: ItemsApi>(whole: &Whole<'_>) -> Division {
    let (version, owners) = (whole.version, whole.owners.to_vec());
    let parts = owners.iter().map(|owner| Part { owner: *owner, body: whole.body.clone() }).collect();
    let head = head_of(whole, owners.iter().copied());
    let merger = Merger(Box::new(move |bodies, owner| {
        merge::<A>(version, &bodies, head, |answers| {
            let own = answers.into_iter().filter_map(|(part, mut answer)| {
                let is_own = |key: &ItemKey| owner(key) == owners[part];
                A::keep(&mut answer, &is_own).then_some(answer)
            });
            let mut own: Vec<A::Answer> = own.collect();
            own.sort_by_cached_key(|answer| {
                let [_, name] = A::keys(answer);
                name
            });
            own
        })
    }));
    Division { parts, merger }
}

/// The part whose fields beside the answers count: that of the owner of what no topic rule names, or else the first.
fn head_of(whole: &Whole<'_>, mut owners: impl Iterator<Item = usize>) -> usize {
    let default = (whole.owner)(&ItemKey::Nothing);
    owners.position(|owner| owner == default).unwrap_or(0)
}

fn merge<A: ItemsApi>(
    version: i16,
    bodies: &[Bytes],
    head: usize,
    arrange: impl FnOnce(Vec<(usize, A::Answer)>) -> Vec<A::Answer>,
) -> Result<Bytes, Malformed> {
    let mut responses = Vec::with_capacity(bodies.len());
    let mut answers = Vec::new();
    for (part, body) in bodies.iter().enumerate() {
        let mut response: A::Response = decode(body, version)?;
        answers.extend(A::take_answers(&mut response).into_iter().map(|answer| (part, answer)));
        responses.push(response);
    }
    if head >= responses.len() {
        return Err(Malformed("a call was split into no parts".to_owned()));
    }
    let mut merged = responses.swap_remove(head);
    for other in responses {
        A::join(&mut merged, other);
    }
    A::put_answers(&mut merged, arrange(answers));
    encode(&merged, version)
}

/// Where a request names what.
#[derive(Default)]
struct RequestOrder {
    places: HashMap<ItemKey, Places>,
    count: usize,
}

/// The places of one key in a request.
#[derive(Default)]
struct Places {
    at: Vec<usize>,
    /// How many answers have been placed.
    answered: usize,
}

impl RequestOrder {
    fn push(&mut self, key: ItemKey) {
        self.places.entry(key).or_default().at.push(self.count);
        self.count += 1;
    }

    /// The answers in the order of the request. Of a repeated item the first answer goes to the first place and so
    /// on; a service that answers it once answers at the first. What the request does not name comes last.
    fn arrange<T>(mut self, answers: impl Iterator<Item = T>, keys: fn(&T) -> [ItemKey; 2]) -> Vec<T> {
        let mut placed: Vec<(usize, T)> = Vec::new();
        for answer in answers {
            let place = keys(&answer).iter().find_map(|key| self.next_place(key));
            placed.push((place.unwrap_or(usize::MAX), answer));
        }
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, answer)| answer).collect()
    }

    fn next_place(&mut self, key: &ItemKey) -> Option<usize> {
        let places = self.places.get_mut(key)?;
        let next = places.at.get(places.answered).or(places.at.last()).copied();
        places.answered += 1;
        next
    }
}

/// Error code of a whole response: the first that is not 0.
pub(super) fn first_error(head: &mut i16, other: i16) {
    if *head == 0 {
        *head = other;
    }
}
