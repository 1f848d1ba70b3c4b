//! The settings of each table: the list that the reference is made of.
//!
//! A new setting is a line here; a new layer or service is a section here. A test holds that each section names exactly
//! the fields of its `Settings`, so a field without a line does not pass.

use crate::kinds::Kind;
use crate::reference::LeftOut::{Default, Means, Required};
use crate::reference::{Section, Setting, fill_in};
use crate::settings::{Admin, Listener, Log, Node};

const fn setting(
    name: &'static str,
    kind: Kind,
    left_out: crate::reference::LeftOut,
    about: &'static str,
) -> Setting {
    Setting { name, kind, left_out, about }
}

/// A count that sizes a queue or a semaphore, which all end somewhere.
const COUNT: Kind = Kind::Number { min: 1, max: 10_000_000 };
const SOME_TIME: Kind = Kind::Span { min_ms: 1 };
const ANY_TIME: Kind = Kind::Span { min_ms: 0 };
/// The kernel counts a budget's bytes in 32 bits.
const POOL: Kind = Kind::Bytes { min: 1 << 20, below: 1 << 32 };
/// Kafka's length prefix is a signed 32-bit number.
const FRAME: Kind = Kind::Bytes { min: 1 << 10, below: 1 << 31 };

pub(crate) static NODE: Section = Section {
    path: "node",
    about: "What this process is in its cluster, and how much it may hold.",
    has_kind: false,
    settings: &[
        setting("cluster_id", Kind::Text, Default, "The cluster's id, as clients see it."),
        setting(
            "node_id",
            Kind::Number { min: 0, max: i32::MAX as i64 },
            Default,
            "This broker's id, as clients see it.",
        ),
        setting(
            "request_memory",
            POOL,
            Default,
            "Bytes that requests of all connections may hold at once; further frames wait.",
        ),
        setting(
            "reply_memory",
            POOL,
            Default,
            "Bytes that replies of all connections may hold at once; further replies wait.",
        ),
        setting("shutdown_grace", ANY_TIME, Default, "How long calls under way may take after SIGTERM."),
        setting(
            "reload_drain",
            ANY_TIME,
            Default,
            "How long the connections of a changed listener may go on after SIGHUP.",
        ),
    ],
    sample: "",
    fill_in: fill_in::<Node>,
};

pub(crate) static LOG: Section = Section {
    path: "log",
    about: "What is written to standard error.",
    has_kind: false,
    settings: &[
        setting(
            "level",
            Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
            Default,
            "The least weighty lines that are written; the layer `trace` writes its line per call at `debug`.",
        ),
        setting(
            "format",
            Kind::OneOf(&["text", "json"]),
            Default,
            "`text` for people, `json` for machines: an object per line.",
        ),
    ],
    sample: "",
    fill_in: fill_in::<Log>,
};

pub(crate) static ADMIN: Section = Section {
    path: "admin",
    about: "The HTTP server with `/metrics`, `/livez`, `/readyz`, `/groups`, `/stack` and `/config`.",
    has_kind: false,
    settings: &[
        setting("bind", Kind::AddressOrOff, Default, "Where it listens; `\"off\"` for not at all."),
        setting(
            "token",
            Kind::Secret,
            Means("anybody who can connect is answered, so only a loopback `bind` is allowed"),
            "What a caller has to show, as `Authorization: Bearer TOKEN`.",
        ),
    ],
    sample: "",
    fill_in: fill_in::<Admin>,
};

pub(crate) static LISTENER: Section = Section {
    path: "listeners.NAME",
    about: "A port and the tower behind it. At least one is needed.",
    has_kind: false,
    settings: &[
        setting("bind", Kind::Address, Required, "Where it listens; port 0 lets the system choose."),
        setting(
            "advertise",
            Kind::HostPort,
            Means("each client is told the address it connected to"),
            "What clients are told to connect to.",
        ),
        setting(
            "stack",
            Kind::Texts,
            Required,
            "Layers from the client's side down; the last is `\"route\"` or a service. `limits` stands above \
             `framing`, all others below it.",
        ),
    ],
    sample: "bind = '127.0.0.1:9092'\nstack = ['framing', 'local']\n",
    fill_in: fill_in::<Listener>,
};

pub(crate) static LIMITS: Section = Section {
    path: "layers.limits",
    about: "How many connections there may be, and how long one may be silent. Stands above `framing`.",
    has_kind: true,
    settings: &[
        setting(
            "connections_max",
            COUNT,
            Default,
            "Connections of one listener; a further one is closed at once.",
        ),
        setting(
            "connections_per_address_max",
            COUNT,
            Means("no limit for one address"),
            "Connections from one client address.",
        ),
        setting("idle_timeout", SOME_TIME, Default, "A connection that is silent for so long is closed."),
    ],
    sample: "",
    fill_in: fill_in::<layers::limits::Settings>,
};

pub(crate) static FRAMING: Section = Section {
    path: "layers.framing",
    about: "Turns bytes into calls and replies into bytes. Every stack has it once.",
    has_kind: true,
    settings: &[
        setting(
            "max_in_flight",
            Kind::Number { min: 1, max: 10_000 },
            Default,
            "Calls of one connection that run at once; replies still leave in order.",
        ),
        setting(
            "frame_bytes_max",
            FRAME,
            Default,
            "The largest request; a larger one closes its connection. At most `node.request_memory`.",
        ),
        setting("frame_timeout", SOME_TIME, Default, "How long a client may take to send one request."),
    ],
    sample: "",
    fill_in: fill_in::<layers::framing::Settings>,
};

pub(crate) static METRICS: Section = Section {
    path: "layers.metrics",
    about: "Counts calls, errors, bytes and times by API. Stands below `framing`.",
    has_kind: true,
    settings: &[],
    sample: "",
    fill_in: fill_in::<layers::metrics::Settings>,
};

pub(crate) static TRACE: Section = Section {
    path: "layers.trace",
    about: "Writes a line per call at the log level `debug`. Stands below `framing`.",
    has_kind: true,
    settings: &[],
    sample: "",
    fill_in: fill_in::<layers::trace::Settings>,
};

pub(crate) static ROUTE: Section = Section {
    path: "route",
    about: "Where calls go whose stack ends in `\"route\"`. The first rule that fits decides.",
    has_kind: false,
    settings: &[
        setting("default", Kind::Text, Required, "The service for calls that no rule fits."),
        setting("rules", Kind::Tables(&RULE), Default, "Tables headed `[[route.rules]]`."),
    ],
    sample: "default = 'local'\n",
    fill_in: fill_in::<layers::route::Settings>,
};

pub(crate) static RULE: Section = Section {
    path: "route.rules",
    about: "A rule fits a call if every list that it gives does; it gives at least one.",
    has_kind: false,
    settings: &[
        setting("listeners", Kind::Texts, Default, "Names of listeners whose stack ends in `\"route\"`."),
        setting("apis", Kind::Texts, Default, "Names of Kafka APIs, such as `\"Produce\"`."),
        setting("topics", Kind::Texts, Default, "Topic names; `*` stands for any characters."),
        setting("to", Kind::Text, Required, "The service."),
    ],
    sample: "to = 'local'\n",
    fill_in: fill_in::<layers::route::Rule>,
};

pub(crate) static STORAGE: Section = Section {
    path: "services.NAME",
    about: "With `kind = \"storage\"`: the broker.",
    has_kind: true,
    settings: &[
        setting(
            "url",
            Kind::Text,
            Required,
            "The store: `\"sqlite://FILE\"`, or `\"memory://\"` to keep nothing.",
        ),
        setting(
            "auto_create_topics",
            Kind::Flag,
            Default,
            "Whether a topic is made when a client first asks for it.",
        ),
        setting(
            "default_partitions",
            Kind::Number { min: 1, max: i32::MAX as i64 },
            Default,
            "Partitions of a topic that is made without saying how many.",
        ),
        setting(
            "retention_interval",
            SOME_TIME,
            Default,
            "How often records past their retention are deleted.",
        ),
        setting(
            "group_initial_rebalance_delay",
            ANY_TIME,
            Default,
            "How long a new group waits for more members before its first rebalance ends.",
        ),
        setting(
            "group_min_session_timeout",
            SOME_TIME,
            Default,
            "The shortest session that a group member may ask for.",
        ),
        setting("group_max_session_timeout", SOME_TIME, Default, "The longest."),
        setting(
            "group_max_size",
            Kind::Number { min: 1, max: i32::MAX as i64 },
            Default,
            "Members that a group may have.",
        ),
        setting(
            "group_consumer_session_timeout",
            SOME_TIME,
            Default,
            "The session of a member of the consumer protocol (KIP-848).",
        ),
        setting(
            "group_consumer_heartbeat_interval",
            SOME_TIME,
            Default,
            "How often such a member says that it lives.",
        ),
        setting(
            "offsets_retention",
            SOME_TIME,
            Default,
            "How long committed offsets are kept after their group was last in use.",
        ),
        setting(
            "commit_bytes_max",
            Kind::Bytes { min: 1, below: 1 << 32 },
            Default,
            "Bytes that are committed together at most; one larger batch still fits alone.",
        ),
        setting(
            "queue_bytes_max",
            Kind::Bytes { min: 1, below: 1 << 32 },
            Default,
            "Bytes that may wait to be committed; further writes wait before they are queued.",
        ),
    ],
    sample: "url = 'memory://'\n",
    fill_in: fill_in::<storage::Settings>,
};

/// All tables, in the order of the reference.
pub(crate) static SECTIONS: [&Section; 11] =
    [&NODE, &LOG, &ADMIN, &LISTENER, &LIMITS, &FRAMING, &METRICS, &TRACE, &ROUTE, &RULE, &STORAGE];
