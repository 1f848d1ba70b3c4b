//! The kinds of services that this build has.

use kernel::service::ServiceKind;

/// All kinds of services. A new kind of service is a line here and a dependency in `Cargo.toml`; everything else (its
/// errors, its reference, how it is built) follows from what it registers.
pub static SERVICES: [ServiceKind; 1] = [ServiceKind::of::<storage::Storage>()];
