//! What the tests of the real binary share: a broker of their own, a client that can say anything, and bodies of any
//! message.

#![allow(dead_code, unused_imports)] // Each test crate uses its part of it.

mod client;
// The kernel's tests fill bodies with the same dice.
#[path = "../../src/kernel/schema/tests/dice.rs"]
pub(crate) mod dice;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use kernel::schema;

pub(crate) use client::{
    Client, Heard, PATIENCE, decoded, encoded, fields, frame, metadata_request, produce_request, text,
};

/// What a broker serves, ApiVersions included.
pub(crate) fn served() -> kernel::Served {
    let mut served = storage::served();
    served.insert(kernel::ServedApi::all_versions(kernel::Api::API_VERSIONS));
    served
}

/// Lets a test that measures time have the machine to itself.
static TURN: RwLock<()> = RwLock::new(());

enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
    /// That of another broker of the same test.
    OfAnother,
}

fn shared() -> Turn {
    Turn::Shared { _guard: TURN.read().unwrap_or_else(PoisonError::into_inner) }
}

/// A process of the real binary, killed when dropped.
pub(crate) struct Broker {
    process: Child,
    /// Where its first listener listens.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
    _turn: Turn,
}

impl Broker {
    /// What `yagura broker` runs, in memory. It offers all that it can serve.
    pub(crate) fn start() -> Self {
        let args = ["broker", "--storage", "memory://", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let broker = Self::spawn(&args.map(OsStr::new), shared());
        broker.client().subscribe_to_metrics();
        broker
    }

    /// What `yagura run FILE` runs; `name` tells the files of a crate's tests apart.
    pub(crate) fn with_config(name: &str, toml: &str) -> Self {
        let turn = shared();
        Self::run(name, toml, turn)
    }

    /// The same, while no other test of this crate has a broker.
    pub(crate) fn alone_with_config(name: &str, toml: &str) -> Self {
        let turn = Turn::Alone { _guard: TURN.write().unwrap_or_else(PoisonError::into_inner) };
        Self::run(name, toml, turn)
    }

    /// Another one, for a test that has this one for all the other's life.
    pub(crate) fn another_with_config(&self, name: &str, toml: &str) -> Self {
        Self::run(name, toml, Turn::OfAnother)
    }

    fn run(name: &str, toml: &str, turn: Turn) -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
        std::fs::write(&file, toml).unwrap();
        Self::spawn(&[OsStr::new("run"), file.as_os_str()], turn)
    }

    fn spawn(args: &[&OsStr], turn: Turn) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_yagura"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = process.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        // It must be read to the end: a broker whose log nobody reads would stop at a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        match banner(&log) {
            Some((address, admin)) => Self { process, address, admin, log, _turn: turn },
            None => {
                let _ = process.kill();
                let _ = process.wait();
                panic!("no broker was ready within {PATIENCE:?}; it said:\n{}", text_of(&log));
            }
        }
    }

    /// A fresh connection to it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Bytes of it that are in memory now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut admin = TcpStream::connect(self.admin).unwrap();
        admin.set_read_timeout(Some(PATIENCE)).unwrap();
        admin.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        admin.read_to_string(&mut page).unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{page}")).trim().parse().unwrap()
    }

    /// Waits for something that must come true; `show` says how far it is.
    pub(crate) fn wait_until(&self, mut is_true: impl FnMut(&Self) -> bool, show: impl Fn(&Self) -> String) {
        let deadline = Instant::now() + PATIENCE;
        while !is_true(self) {
            assert!(Instant::now() < deadline, "still waiting after {PATIENCE:?}: {}", show(self));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Fails if a call, or the process, has panicked, or is gone.
    pub(crate) fn assert_unharmed(&mut self) {
        let log = text_of(&self.log);
        assert!(!log.contains("panicked"), "the broker panicked:\n{log}");
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "the broker ended with {ended:?}:\n{log}");
        assert_eq!(self.metric("yagura_panics_total"), 0.0);
        let metadata = self.client().metadata(&["honest"]);
        assert_eq!(metadata.get("Topics").unwrap().elements().len(), 1);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = text_of(&self.log);
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the broker's last words:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

fn text_of(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The addresses of the first listener and of the admin server, once the broker has said them.
fn banner(log: &Mutex<String>) -> Option<(SocketAddr, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let text = text_of(log);
        let word = |label: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label))?;
            line.split_whitespace().next()
        };
        // The admin address is the later line, so when it is there the banner is whole up to it.
        let admin = word("admin ").and_then(|url| url.strip_prefix("http://")?.strip_suffix("/metrics"));
        if let (Some(listens), Some(admin)) = (word("listens "), admin) {
            return Some((listens.parse().unwrap(), admin.parse().unwrap()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
