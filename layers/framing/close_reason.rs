//! Why a connection ended.

use std::fmt;

/// Why a connection ended; its `Display` is a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it between two requests.
    Closed,
    /// The client closed it within a request.
    CutShort,
    /// Reading or writing failed.
    Broken(String),
    /// It moved less than 64 KiB within `stall_timeout`, while others waited for the memory that it held.
    Stalled,
    /// A frame for which Kafka closes the connection: invalid length, header, API or version.
    Refused(String),
    /// The client does not speak Kafka's protocol.
    ForeignProtocol(ForeignProtocol),
    /// A layer or service closed it.
    HungUp(String),
    /// A reply that closes the connection has been sent.
    Finished,
    /// The listener is draining; all calls in flight have been answered.
    Drained,
    /// A call panicked.
    Panicked(String),
}

/// A foreign protocol, detected by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// A TLS ClientHello.
    Tls,
    /// An HTTP request.
    Http,
}

impl CloseReason {
    /// The possible values of [`CloseReason::reason`].
    pub const REASONS: [&'static str; 10] = [
        "closed",
        "cut_short",
        "broken",
        "stalled",
        "refused",
        "foreign_protocol",
        "hung_up",
        "finished",
        "drained",
        "panicked",
    ];

    /// The reason in one word, for a metric's label.
    pub fn reason(&self) -> &'static str {
        let index = match self {
            CloseReason::Closed => 0,
            CloseReason::CutShort => 1,
            CloseReason::Broken(_) => 2,
            CloseReason::Stalled => 3,
            CloseReason::Refused(_) => 4,
            CloseReason::ForeignProtocol(_) => 5,
            CloseReason::HungUp(_) => 6,
            CloseReason::Finished => 7,
            CloseReason::Drained => 8,
            CloseReason::Panicked(_) => 9,
        };
        Self::REASONS[index]
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Closed => f.write_str("the client closed it"),
            CloseReason::CutShort => f.write_str("the client closed it in the middle of a request"),
            CloseReason::Broken(error) => write!(f, "the connection broke: {error}"),
            CloseReason::Stalled => f.write_str(
                "it moved less than 64 KiB within stall_timeout, while others waited for the memory that it held",
            ),
            CloseReason::Refused(why) => write!(f, "its request was refused: {why}"),
            CloseReason::ForeignProtocol(protocol) => {
                write!(f, "{protocol} was spoken on a plaintext Kafka port")
            }
            CloseReason::HungUp(why) => f.write_str(why),
            CloseReason::Finished => f.write_str("its last reply asked for that"),
            CloseReason::Drained => f.write_str("the listener is being wound down"),
            CloseReason::Panicked(what) => write!(f, "a call panicked: {what}"),
        }
    }
}

impl ForeignProtocol {
    /// Detects a protocol by the four bytes where Kafka has a length. As lengths they are all above 360 MB,
    /// more than any client's first request.
    pub(super) fn known_by(first: [u8; 4]) -> Option<Self> {
        match &first {
            [0x16, 0x03, ..] => Some(ForeignProtocol::Tls),
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"PRI " => Some(ForeignProtocol::Http),
            _ => None,
        }
    }

    /// What is wrong and what to do, for the operator.
    pub(super) fn advice(self) -> &'static str {
        match self {
            ForeignProtocol::Tls => {
                "a TLS client talks to a plaintext Kafka port: set its security.protocol to PLAINTEXT (or \
                 SASL_PLAINTEXT), or point it to a listener that speaks TLS"
            }
            ForeignProtocol::Http => {
                "an HTTP client talks to a plaintext Kafka port: metrics and health are at the admin address, and \
                 this port speaks Kafka's protocol only"
            }
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForeignProtocol::Tls => "TLS",
            ForeignProtocol::Http => "HTTP",
        })
    }
}
