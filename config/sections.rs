//! All tables of a config. Those of the server and of `[route]` are here, a line per setting; those of
//! layers and services come from what each registers.
//!
//! A test holds that each section names exactly the fields of its settings, so a field without a line does not pass.

use std::borrow::Cow;

use kernel::settings::{ANY_TIME, Setting, Settings, ValueKind};

use crate::registry::{layer_kinds, service_kinds};
use crate::section::Section;
use crate::settings::{Admin, Listener, Log, Node};

/// The kernel counts a budget's bytes in 32 bits.
const POOL: ValueKind = ValueKind::Bytes { min: 1 << 20, below: 1 << 32 };

pub(crate) static NODE: Section = Section {
    path: Cow::Borrowed("node"),
    about: "What this process is in its cluster, and how much it may hold.",
    has_kind: false,
    settings: &[
        Setting::new("cluster_id", ValueKind::Text, "The cluster's id, as clients see it."),
        Setting::optional(
            "node_id",
            ValueKind::Number { min: 0, max: i32::MAX as i64 },
            "1; the lowest free one of a store that brokers share",
            "This broker's id, as clients see it.",
        ),
        Setting::optional(
            "rack",
            ValueKind::Text,
            "none",
            "The rack, or the zone, of this broker, as clients see it.",
        ),
        Setting::new(
            "request_memory",
            POOL,
            "Bytes that requests of all connections may hold at once; further frames wait.",
        ),
        Setting::new(
            "reply_memory",
            POOL,
            "Bytes that replies of all connections may hold at once, of which a quarter is left for what the allocator keeps beside them; further replies wait.",
        ),
        Setting::new("shutdown_grace", ANY_TIME, "How long calls under way may take after SIGTERM."),
        Setting::new(
            "reload_drain",
            ANY_TIME,
            "How long the connections of a changed listener may go on after SIGHUP.",
        ),
    ],
    sample: "{}",
    decode: Settings::decode::<Node>,
};

pub(crate) static LOG: Section = Section {
    path: Cow::Borrowed("log"),
    about: "What is written to standard error.",
    has_kind: false,
    settings: &[
        Setting::new(
            "level",
            ValueKind::OneOf(&["error", "warn", "info", "debug", "trace"]),
            "The lowest level that is written; the layer `trace` writes its line per call at `debug`.",
        ),
        Setting::new(
            "format",
            ValueKind::OneOf(&["text", "json"]),
            "`text` for people, `json` for machines: an object per line.",
        ),
    ],
    sample: "{}",
    decode: Settings::decode::<Log>,
};

pub(crate) static ADMIN: Section = Section {
    path: Cow::Borrowed("admin"),
    about: "The HTTP server with `/metrics`, `/livez`, `/readyz`, `/groups`, `/stack` and `/config`.",
    has_kind: false,
    settings: &[
        Setting::new("bind", ValueKind::AddressOrOff, "Where it listens; `\"off\"` for not at all."),
        Setting::optional(
            "token",
            ValueKind::Secret,
            "anybody who can connect is answered, so only a loopback `bind` is allowed",
            "What a caller has to show, as `Authorization: Bearer TOKEN`.",
        ),
    ],
    sample: "{}",
    decode: Settings::decode::<Admin>,
};

pub(crate) static LISTENER: Section = Section {
    path: Cow::Borrowed("listeners.NAME"),
    about: "A port and the tower behind it. At least one is needed.",
    has_kind: false,
    settings: &[
        Setting::required("bind", ValueKind::Address, "Where it listens; port 0 lets the system choose."),
        Setting::optional(
            "advertise",
            ValueKind::HostPort,
            "each client is told the address it connected to",
            "What clients are told to connect to.",
        ),
        Setting::required(
            "stack",
            ValueKind::Texts,
            "Layers from the client's side down; the last is `\"route\"` or a service. `limits` stands above \
             `framing`, all others below it.",
        ),
    ],
    sample: r#"{ "bind": "127.0.0.1:9092", "stack": ["framing", "local"] }"#,
    decode: Settings::decode::<Listener>,
};

const RULE_SETTINGS: &[Setting] = &[
    Setting::new("listeners", ValueKind::Texts, "Names of listeners whose stack ends in `\"route\"`."),
    Setting::new("apis", ValueKind::Texts, "Names of Kafka APIs, such as `\"Produce\"`."),
    Setting::new("topics", ValueKind::Texts, "Topic names; `*` matches any characters, `?` one."),
    Setting::required("to", ValueKind::Text, "The service."),
];

pub(crate) static ROUTE: Section = Section {
    path: Cow::Borrowed("route"),
    about: "Where calls go whose stack ends in `\"route\"`. The first rule that fits decides.",
    has_kind: false,
    settings: &[
        Setting::required("default", ValueKind::Text, "The service for calls that no rule fits."),
        Setting::new(
            "rules",
            ValueKind::Tables { path: "route.rules", settings: RULE_SETTINGS },
            "Tables headed `[[route.rules]]`.",
        ),
    ],
    sample: r#"{ "default": "local" }"#,
    decode: Settings::decode::<layers::route::Settings>,
};

pub(crate) static RULE: Section = Section {
    path: Cow::Borrowed("route.rules"),
    about: "A rule fits a call if every list that it gives does; it gives at least one.",
    has_kind: false,
    settings: RULE_SETTINGS,
    sample: r#"{ "to": "local" }"#,
    decode: Settings::decode::<layers::route::Rule>,
};

/// All tables, in the order of the reference.
pub(crate) fn all() -> Vec<Section> {
    let own = [&NODE, &LOG, &ADMIN, &LISTENER].into_iter().cloned();
    let layers = layer_kinds().iter().map(Section::of_layer);
    let routing = [&ROUTE, &RULE].into_iter().cloned();
    let services = service_kinds().iter().map(Section::of_service);
    own.chain(layers).chain(routing).chain(services).collect()
}

/// The tables that have a setting of this name.
pub(crate) fn homes_of(name: &str) -> Vec<String> {
    let sections = all();
    let homes = sections.iter().filter(|section| section.setting(name).is_some());
    let mut homes: Vec<String> = homes.map(|section| format!("[{}]", section.path)).collect();
    // Every kind of service stands under the same path.
    homes.dedup();
    homes
}
