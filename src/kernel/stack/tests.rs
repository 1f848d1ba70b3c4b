//! The guarantees of a stack to layers and services: bodies that no layer decodes arrive unchanged, APIs with
//! the same layers share a chain, and a layer can refuse, mute, delay and rename on every API.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::layer::layer_fn;

use super::*;
use crate::schema::tests::dice::{self, Dice, Fill};
use crate::schema::tests::for_each_scalar;
use crate::schema::value::{self, Value};
use crate::schema::walk::{self, Found, Replacement};
use crate::schema::{Direction, Mark, Message};
use crate::{ErrorCode, Header};

/// A layer that applies a function to each call and the door below.
#[derive(Clone)]
struct Acting<F> {
    below: Door,
    act: F,
}

impl<F: Fn(Door, Call) -> ReplyFuture> Service<Call> for Acting<F> {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ReplyFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> ReplyFuture {
        (self.act)(self.below.clone(), call)
    }
}

fn tier<F>(name: &str, interest: fn(Api) -> Interest, act: F) -> Tier
where
    F: Fn(Door, Call) -> ReplyFuture + Clone + Send + Sync + 'static,
{
    Tier::new(name, interest, layer_fn(move |below| Acting { below, act: act.clone() }))
}

fn everywhere(_: Api) -> Interest {
    Interest::HEADER
}

/// A layer that forwards and counts all calls.
fn counting(name: &str, interest: fn(Api) -> Interest) -> (Tier, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let tier = tier(name, interest, move |below, call| {
        counter.fetch_add(1, Ordering::SeqCst);
        below.enter(call)
    });
    (tier, count)
}

/// What a call looked like when it reached the end of the stack.
struct Arrived {
    body: Bytes,
    is_decoded: bool,
}

/// A service that records calls and answers with a valid body, as a proxy's upstream would; a call with an
/// unknown API key gets its own body back.
#[derive(Clone, Default)]
struct Relay(Arc<Mutex<Vec<Arrived>>>);

impl Relay {
    fn door(&self) -> Door {
        let relay = self.clone();
        Door::from_fn(move |call| {
            let Header { api, version, .. } = call.header;
            let (body, is_decoded) = (call.body.raw().clone(), call.body.is_decoded());
            let answer =
                if api.is_known() { encoded(api, version, Direction::Response) } else { body.clone() };
            relay.0.lock().push(Arrived { body, is_decoded });
            Box::pin(async move { Ok(Some(Reply::new(answer))) })
        })
    }

    fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.0.lock())
    }
}

fn stack(tiers: Vec<Tier>, relay: &Relay) -> Stack {
    Stack::build(tiers, relay.door(), Served::default)
}

/// Every call that reaches a service: ApiVersions is answered by the stack.
fn every_call() -> impl Iterator<Item = (Api, i16)> {
    let reaching = Api::all().filter(|api| *api != Api::API_VERSIONS);
    reaching.flat_map(|api| (api.versions().min..=api.versions().max).map(move |version| (api, version)))
}

fn message(api: Api, direction: Direction) -> &'static Message {
    api.message(direction).unwrap()
}

fn tree(api: Api, version: i16, direction: Direction) -> Value {
    let mut tree =
        dice::body(message(api, direction), version, Fill::Everything, &mut Dice::new(version as u64 + 1));
    if api == Api::PRODUCE && direction == Direction::Request {
        tree.set("Acks", Value::Int(-1));
    }
    tree
}

fn encoded(api: Api, version: i16, direction: Direction) -> Bytes {
    let message = message(api, direction);
    Bytes::from(value::encode(message, version, &tree(api, version, direction)).unwrap())
}

fn call(api: Api, version: i16) -> Call {
    Call::for_tests_raw(api, version, encoded(api, version, Direction::Request))
}

#[tokio::test]
async fn a_body_that_no_layer_looks_into_arrives_as_the_very_same_bytes() {
    let relay = Relay::default();
    let (first, first_count) = counting("first", everywhere);
    let (second, second_count) = counting("second", everywhere);
    let stack = stack(vec![first, second], &relay);
    let mut calls = 0;
    for (api, version) in every_call() {
        let call = call(api, version);
        let sent = call.body.raw().clone();
        stack.enter(call).await.unwrap().unwrap();
        let arrived = relay.take().pop().unwrap();
        assert_eq!(arrived.body.as_ptr(), sent.as_ptr(), "{api:?} {version} was copied");
        assert_eq!(arrived.body.len(), sent.len(), "{api:?} {version}");
        assert!(!arrived.is_decoded, "{api:?} {version} was decoded");
        calls += 1;
    }
    assert!(calls > 200, "only {calls} calls");
    assert_eq!((first_count.load(Ordering::SeqCst), second_count.load(Ordering::SeqCst)), (calls, calls));
}

#[tokio::test]
async fn looking_for_names_copies_nothing_either() {
    let relay = Relay::default();
    let names = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&names);
    let look = tier("look", everywhere, move |below, mut call| {
        let note = |found: Found<'_>| {
            if found.field.mark == Mark::TopicName {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        call.walk(note).unwrap();
        below.enter(call)
    });
    let stack = stack(vec![look], &relay);
    for (api, version) in every_call() {
        let call = call(api, version);
        let sent = call.body.raw().clone();
        stack.enter(call).await.unwrap().unwrap();
        let arrived = relay.take().pop().unwrap();
        assert_eq!(arrived.body.as_ptr(), sent.as_ptr(), "{api:?} {version} was copied");
        assert!(!arrived.is_decoded, "{api:?} {version} was decoded");
    }
    assert!(names.load(Ordering::SeqCst) > 100);
}

#[tokio::test]
async fn a_reply_that_no_layer_looks_into_comes_back_as_the_very_same_bytes() {
    let sent = Bytes::from(vec![7; 100]);
    let answer = sent.clone();
    let service = Door::from_fn(move |_| {
        let answer = answer.clone();
        Box::pin(async move { Ok(Some(Reply::new(answer))) })
    });
    let stack = Stack::build(vec![counting("one", everywhere).0], service, Served::default);
    let reply = stack.enter(call(Api::FETCH, 12)).await.unwrap().unwrap();
    assert_eq!(reply.body.as_ptr(), sent.as_ptr());
}

#[test]
fn apis_with_the_same_layers_share_one_chain() {
    fn only_produce(api: Api) -> Interest {
        if api == Api::PRODUCE { Interest::HEADER } else { Interest::NONE }
    }
    fn only_replies_of_metadata(api: Api) -> Interest {
        let reply = if api == Api::METADATA { Depth::Body } else { Depth::None };
        Interest { request: Depth::None, reply }
    }
    let relay = Relay::default();
    let (all, produce, metadata) = (
        counting("all", everywhere).0,
        counting("produce", only_produce).0,
        counting("metadata", only_replies_of_metadata).0,
    );
    let stack = stack(vec![all, produce, metadata], &relay);
    let chain = |api: Api| stack.chain(api);
    assert!(chain(Api::FETCH).same_as(chain(Api::CREATE_TOPICS)));
    assert!(
        chain(Api::FETCH).same_as(chain(Api(10_000))),
        "a key that nobody knows passes what is everywhere"
    );
    assert!(chain(Api(-1)).same_as(chain(Api(i16::MAX))));
    assert!(!chain(Api::FETCH).same_as(chain(Api::PRODUCE)));
    assert!(!chain(Api::FETCH).same_as(chain(Api::METADATA)));

    let tiers = |api: Api| stack.explain(api).tiers.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(tiers(Api::PRODUCE), ["all", "produce"]);
    assert_eq!(tiers(Api::METADATA), ["all", "metadata"]);
    assert_eq!(tiers(Api::FETCH), ["all"]);
    assert_eq!(stack.tier_names().collect::<Vec<_>>(), ["all", "produce", "metadata"]);
}

#[tokio::test]
async fn a_stack_may_end_in_a_relay_that_knows_more_than_yagura() {
    let relay = Relay::default();
    let stack = stack(vec![counting("one", everywhere).0], &relay);
    let sent = Bytes::from_static(b"of an API that is yet to be");
    let reply = stack.enter(Call::for_tests_raw(Api(10_000), 3, sent.clone())).await.unwrap().unwrap();
    assert_eq!(reply.body.as_ptr(), sent.as_ptr());
    assert_eq!(relay.take().pop().unwrap().body.as_ptr(), sent.as_ptr());
}

#[tokio::test]
async fn a_layer_can_refuse_every_api() {
    let relay = Relay::default();
    let refusing = tier("refusing", everywhere, |_, call| {
        let refusal = call.refuse(ErrorCode::ClusterAuthorizationFailed, "not for you");
        Box::pin(async move { refusal })
    });
    let stack = stack(vec![refusing], &relay);
    for (api, version) in every_call() {
        let reply = stack.enter(call(api, version)).await.unwrap().unwrap();
        let body = reply.body;
        assert_eq!(walk::check(message(api, Direction::Response), version, &body), Ok(body.len()));
    }
    assert!(relay.take().is_empty(), "a refused call went on");
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_delay_and_mute_every_api() {
    let relay = Relay::default();
    let slow = tier("slow", everywhere, |below, call| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let mut reply = below.enter(call).await?;
            if let Some(reply) = &mut reply {
                reply.mute = Some(Duration::from_secs(5));
            }
            Ok(reply)
        })
    });
    let stack = stack(vec![slow], &relay);
    for (api, version) in every_call() {
        let start = Instant::now();
        let reply = stack.enter(call(api, version)).await.unwrap().unwrap();
        assert!(start.elapsed() >= Duration::from_secs(3), "{api:?} {version} was not delayed");
        assert_eq!(reply.mute, Some(Duration::from_secs(5)));
        assert_eq!(relay.take().len(), 1);
    }
}

const TENANT: &str = "tenant-7.";

/// Below the layer topics and groups have the tenant's prefix, above it they do not.
fn prefixed(found: &Found<'_>) -> Option<Replacement> {
    let is_name = matches!(found.field.mark, Mark::TopicName | Mark::GroupId);
    found.value.as_str().filter(|_| is_name).map(|name| Replacement::Text(format!("{TENANT}{name}")))
}

fn unprefixed(found: &Found<'_>) -> Option<Replacement> {
    let is_name = matches!(found.field.mark, Mark::TopicName | Mark::GroupId);
    let name = found.value.as_str().filter(|_| is_name)?;
    name.strip_prefix(TENANT).map(|name| Replacement::Text(name.to_owned()))
}

fn with_prefix(api: Api, version: i16, direction: Direction) -> Value {
    let mut tree = tree(api, version, direction);
    for_each_scalar(message(api, direction).fields, version, &mut tree, &mut |field, value| {
        if let (Mark::TopicName | Mark::GroupId, Value::String(name)) = (field.mark, value) {
            name.insert_str(0, TENANT);
        }
    });
    tree
}

/// The service below the tenant layer: all names in its replies have the prefix.
fn prefixed_service(relay: &Relay) -> Door {
    let below = relay.door();
    Door::from_fn(move |call| {
        let Header { api, version, .. } = call.header;
        let answered = below.enter(call);
        Box::pin(async move {
            answered.await?;
            let answer = with_prefix(api, version, Direction::Response);
            let body = value::encode(message(api, Direction::Response), version, &answer).unwrap();
            Ok(Some(Reply::new(body)))
        })
    })
}

#[tokio::test]
async fn a_layer_can_rename_in_requests_and_replies_of_every_api() {
    let relay = Relay::default();
    let tenant = tier("tenant", everywhere, |below, mut call| {
        let Header { api, version, .. } = call.header;
        Box::pin(async move {
            call.rewrite(prefixed).unwrap();
            let reply = below.enter(call).await?.unwrap();
            let body = reply.body;
            let renamed =
                walk::rewrite(message(api, Direction::Response), version, &body, unprefixed).unwrap();
            Ok(Some(Reply { body: renamed.unwrap_or(body), ..reply }))
        })
    });
    let stack = Stack::build(vec![tenant], prefixed_service(&relay), Served::default);
    for (api, version) in every_call() {
        let reply = stack.enter(call(api, version)).await.unwrap().unwrap();
        let arrived = relay.take().pop().unwrap();
        let request = value::decode(message(api, Direction::Request), version, &arrived.body).unwrap();
        assert_eq!(request, with_prefix(api, version, Direction::Request), "{api:?} {version}");
        let response = value::decode(message(api, Direction::Response), version, &reply.body).unwrap();
        assert_eq!(response, tree(api, version, Direction::Response), "{api:?} {version}");
    }
}
