//! Bodies of every served API at every version: well formed with wild values, cut, bent, and with lying counts.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;

use kernel::Api;
use kernel::schema::value::Value;
use kernel::schema::walk::{self, RawValue, put_varint};
use kernel::schema::{Direction, Message};

use crate::support::dice::{self, Dice, Fill};
use crate::support::{Broker, Client, Heard, decoded, encoded, frame};

/// More than enough for a broker that keeps nothing of what these tests send.
const RSS_BYTES_MAX: u64 = 160 << 20;

/// Every API and version that the binary serves.
fn served() -> Vec<(Api, i16)> {
    let versions = |served: kernel::ServedApi| served.served_min..=served.max;
    let pairs = crate::support::served().apis().to_vec().into_iter();
    pairs.flat_map(|served| versions(served).map(move |version| (served.api, version))).collect()
}

fn request_message(api: Api) -> &'static Message {
    api.message(Direction::Request).unwrap()
}

/// A body with wild values, but for two that would rightly keep the broker silent: acks=0, and a long wait.
fn wild(api: Api, version: i16, fill: Fill, seed: u64) -> Value {
    let mut request = dice::body(request_message(api), version, fill, &mut Dice::new(seed));
    request.set("Acks", Value::Int(-1));
    request.set("MaxWaitMs", Value::Int(1));
    request
}

/// Sends requests on one connection, until that is closed and it takes the next.
struct Provoker {
    address: SocketAddr,
    client: Option<Client>,
    answered: usize,
    closed: usize,
}

impl Provoker {
    fn new(address: SocketAddr) -> Self {
        Self { address, client: None, answered: 0, closed: 0 }
    }

    /// Sends a request with an honest one behind it, and waits until that one is answered or the connection closed.
    /// An answer to the first must be whole; there may be none, as a bent body can ask for acks=0.
    fn provoke(&mut self, api: Api, version: i16, body: &[u8], what: &str) -> Option<Value> {
        const PROVOCATION: i32 = 1;
        const HONEST: i32 = 2;
        let mut client = self.client.take().unwrap_or_else(|| Client::connect(self.address));
        let honest = frame(Api::API_VERSIONS, 0, HONEST, &[]);
        client.send(&[frame(api, version, PROVOCATION, body), honest].concat());
        let mut answer = None;
        loop {
            match client.hear(what) {
                Heard::Reply(PROVOCATION, rest) if answer.is_none() => {
                    self.answered += 1;
                    answer = Some(decoded(api, version, &rest));
                }
                Heard::Reply(HONEST, _) => {
                    self.client = Some(client);
                    return answer;
                }
                Heard::Reply(id, rest) => panic!("{what}: a reply {id} that nobody asked for: {rest:02x?}"),
                Heard::Closed => {
                    self.closed += 1;
                    return answer;
                }
            }
        }
    }
}

/// Shows every served API and version to `provoke`, some at a time.
fn for_each_served(address: SocketAddr, provoke: impl Fn(&mut Provoker, Api, i16) + Sync) -> (usize, usize) {
    let served = served();
    thread::scope(|scope| {
        let provoke = &provoke;
        let parts: Vec<_> = served
            .chunks(served.len().div_ceil(4))
            .map(|part| {
                scope.spawn(move || {
                    let mut provoker = Provoker::new(address);
                    for (api, version) in part {
                        provoke(&mut provoker, *api, *version);
                    }
                    (provoker.answered, provoker.closed)
                })
            })
            .collect();
        let counts = parts.into_iter().map(|part| part.join().unwrap());
        counts.fold((0, 0), |all, part| (all.0 + part.0, all.1 + part.1))
    })
}

fn assert_small(broker: &Broker) {
    let rss_bytes = broker.rss_bytes();
    assert!(rss_bytes < RSS_BYTES_MAX, "the broker has grown to {rss_bytes} bytes");
}

#[test]
fn well_formed_bodies_with_wild_values_are_answered() {
    let mut broker = Broker::start();
    for_each_served(broker.address, |provoker, api, version| {
        let mut answers = 0;
        for seed in 0..10 {
            let fill = if seed % 2 == 0 { Fill::Everything } else { Fill::Anything };
            let body = encoded(api, version, &wild(api, version, fill, seed));
            let what = format!("{api} {version}, seed {seed}");
            answers += usize::from(provoker.provoke(api, version, &body, &what).is_some());
        }
        assert!(answers > 0, "{api} {version}: none of ten well-formed requests was answered");
    });
    assert_small(&broker);
    broker.assert_unharmed();
}

#[test]
fn bodies_cut_anywhere_are_closed() {
    let mut broker = Broker::start();
    let (answered, closed) = for_each_served(broker.address, |provoker, api, version| {
        let body = encoded(api, version, &wild(api, version, Fill::Everything, 1));
        for end in 0..body.len() {
            let what = format!("{api} {version} cut at {end} of {}", body.len());
            let answer = provoker.provoke(api, version, &body[..end], &what);
            assert!(answer.is_none(), "{what}: answered with {answer:?}");
        }
    });
    assert_eq!(answered, 0);
    assert!(closed > 3_000, "only {closed} requests were cut");
    assert_small(&broker);
    broker.assert_unharmed();
}

/// Where a field stands that must keep its value, lest the broker rightly keeps silent.
fn places(api: Api, version: i16, body: &[u8], name: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let note = |found: walk::Found<'_>| {
        if found.field.name == name {
            places.push(found.at);
        }
    };
    walk::walk(request_message(api), version, body, note).unwrap();
    places
}

#[test]
fn bodies_with_any_byte_bent_are_answered_or_closed() {
    let mut broker = Broker::start();
    let (answered, closed) = for_each_served(broker.address, |provoker, api, version| {
        let mut body = encoded(api, version, &wild(api, version, Fill::Everything, 2));
        let waits = places(api, version, &body, "MaxWaitMs");
        for at in (0..body.len()).filter(|at| !waits.iter().any(|wait| wait.contains(at))) {
            let byte = body[at];
            for wrong in [byte ^ 0xff, byte ^ 1] {
                body[at] = wrong;
                let what = format!("{api} {version}, byte {at} bent from {byte:02x} to {wrong:02x}");
                provoker.provoke(api, version, &body, &what);
            }
            body[at] = byte;
        }
    });
    assert!(answered > 1_000 && closed > 1_000, "{answered} answered, {closed} closed");
    assert_small(&broker);
    broker.assert_unharmed();
}

#[test]
fn counts_that_no_body_holds_close_the_connection_and_take_no_memory() {
    let mut broker = Broker::start();
    let (answered, closed) = for_each_served(broker.address, |provoker, api, version| {
        let message = request_message(api);
        let body = encoded(api, version, &wild(api, version, Fill::Everything, 3));
        let mut counts = Vec::new();
        let note = |found: walk::Found<'_>| {
            if let RawValue::Array(_) = found.value {
                counts.push(found.at);
            }
        };
        walk::walk(message, version, &body, note).unwrap();
        for at in counts {
            for lie in [i32::MAX as u32, 1 << 24] {
                let mut lying = body[..at.start].to_vec();
                if message.flexible.contains(version) {
                    put_varint(&mut lying, lie + 1)
                } else {
                    lying.extend(lie.to_be_bytes())
                }
                lying.extend(&body[at.end..]);
                let what = format!("{api} {version}, the count at {} is {lie}", at.start);
                let answer = provoker.provoke(api, version, &lying, &what);
                assert!(answer.is_none(), "{what}: answered with {answer:?}");
            }
        }
    });
    assert_eq!(answered, 0);
    assert!(closed > 300, "only {closed} lies were told");
    assert_small(&broker);
    broker.assert_unharmed();
}
