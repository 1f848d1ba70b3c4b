//! A thousand hostile connections at once, with 32 MiB for requests: the broker stays small, and an honest client hardly
//! notices.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel::Api;
use kernel::schema::value::Value;

use crate::support::dice::Dice;
use crate::support::{Broker, Client, PATIENCE, fields, frame, produce_request, text};

const CROWD: usize = 1_000;
const RSS_BYTES_MAX: u64 = 64 << 20;
const TRIES: usize = 50;
/// What an honest client may wait, and how many times as long as at a broker without a crowd: on a machine that is busy with
/// others both take long.
const MEDIAN_MAX: Duration = Duration::from_millis(50);
const TIMES_AS_LONG_MAX: u32 = 20;

const CONFIG: &str = r#"
[node]
request_memory = "32MiB"

[listeners.main]
bind = "127.0.0.1:0"
stack = ["limits", "framing", "metrics", "trace", "route"]

# The crowd is not to be closed for its silence before all of it has come.
[layers.framing]
stall_timeout = "1h"

[services.local]
kind = "storage"
url = "memory://"

[route]
default = "local"

[admin]
bind = "127.0.0.1:0"
"#;

/// What one of the crowd says. The first two are kept waiting for the rest; the others are closed.
fn rant(index: usize, dice: &mut Dice) -> Vec<u8> {
    let mut garbage = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| dice.roll() as u8).collect() };
    let claim = |length: i32, said: Vec<u8>| [&length.to_be_bytes()[..], &said].concat();
    match index % 5 {
        0 => claim(1 << 20, garbage(20 << 10)),
        1 => claim(15 << 10, garbage(8 << 10)),
        2 => claim(i32::MAX, garbage(1 << 10)),
        3 => frame(Api::METADATA, 12, 1, &[&[0xff; 4][..], &garbage(2 << 10)].concat()),
        _ => garbage(256),
    }
}

/// Of a thousand, those that are kept waiting.
const WAITING: usize = CROWD / 5 * 2;

fn shout(address: SocketAddr, index: usize, dice: &mut Dice) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The broker may close before all is said, which is its good right.
    let _ = stream.write_all(&rant(index, dice));
    stream
}

/// Ends the crowd's coming back when dropped, so that a test that fails does not wait for it for ever.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an honest client does first: connect, and ask three things.
fn honest_visit(address: SocketAddr, produce: &Value) -> Duration {
    let start = Instant::now();
    let mut client = Client::connect(address);
    let software = fields([("ClientSoftwareName", text("honest")), ("ClientSoftwareVersion", text("1.0"))]);
    let versions = client.ask(Api::API_VERSIONS, 4, &software);
    assert_eq!(versions.get("ErrorCode"), Some(&Value::Int(0)));
    assert_eq!(client.metadata(&["honest"]).get("Topics").unwrap().elements().len(), 1);
    let answer = client.ask(Api::PRODUCE, 9, produce);
    let topic = &answer.get("Responses").unwrap().elements()[0];
    let partition = &topic.get("PartitionResponses").unwrap().elements()[0];
    assert_eq!(partition.get("ErrorCode"), Some(&Value::Int(0)), "{answer:?}");
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Only medians are compared: on a busy machine a few of fifty may be late for reasons that are not the broker's.
#[test]
fn a_crowd_of_a_thousand_neither_fills_the_memory_nor_holds_up_an_honest_client() {
    let limit = rlimit::increase_nofile_limit(4 * CROWD as u64).unwrap();
    assert!(
        limit > 2 * CROWD as u64,
        "this test opens {CROWD} connections, but only {limit} files are allowed"
    );
    let mut broker = Broker::alone_with_config("crowd", CONFIG);
    let address = broker.address;
    let id = broker.client().create_topic("honest");
    let produce = produce_request("honest", id, -1, &[7; 512]);
    let quiet = broker.another_with_config("quiet", CONFIG);
    let produce_there = produce_request("honest", quiet.client().create_topic("honest"), -1, &[7; 512]);

    let mut dice = Dice::new(1);
    let held: Vec<_> = (0..CROWD).map(|index| shout(address, index, &mut dice)).collect();
    let waiting = |broker: &Broker| broker.metric("yagura_connections_open") as usize;
    let reserved = |broker: &Broker| broker.metric("yagura_request_memory_used_bytes") as usize;
    broker.wait_until(
        |broker| waiting(broker) >= WAITING && reserved(broker) >= 8 << 20,
        |broker| format!("{} connections wait, {} bytes are reserved", waiting(broker), reserved(broker)),
    );
    let mut rss_bytes_max = broker.rss_bytes();
    let (mut times, mut quiet_times) = (Vec::new(), Vec::new());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Those who were closed come again, and again.
        scope.spawn(|| {
            let mut dice = Dice::new(2);
            while !is_over.load(Ordering::Relaxed) {
                (2..5).for_each(|index| drop(shout(address, index, &mut dice)));
                thread::sleep(Duration::from_millis(2));
            }
        });
        let _end = End(&is_over);
        for _ in 0..TRIES {
            times.push(honest_visit(address, &produce));
            quiet_times.push(honest_visit(quiet.address, &produce_there));
            rss_bytes_max = rss_bytes_max.max(broker.rss_bytes());
        }
    });
    let (median, quiet_median) = (median(&mut times), median(&mut quiet_times));
    let slowest = times[TRIES - 1];
    println!("honest: median {median:?}, slowest {slowest:?}; without a crowd: {quiet_median:?}");
    println!("resident: {rss_bytes_max} bytes");
    assert!(rss_bytes_max < RSS_BYTES_MAX, "the broker has grown to {rss_bytes_max} bytes");
    let median_max = MEDIAN_MAX.max(TIMES_AS_LONG_MAX * quiet_median);
    assert!(
        median < median_max,
        "an honest client is answered in {median:?}, without a crowd in {quiet_median:?}: {times:?}"
    );
    drop(held);
    broker.assert_unharmed();
}
