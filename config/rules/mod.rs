//! Checks across tables: the order of a stack, references, and what is shared.
//!
//! A rule looks at the names and places on the sheet more than at decoded settings, so that one broken value does not
//! silence it. It stays silent itself where it could only guess: if a stack holds a name that does not exist, nothing is
//! said about what the stack leaves out.

mod facts;
mod names;
mod own;
mod ports;
mod reach;
mod routing;
mod stacks;

use crate::decode::Draft;
use crate::sheet::Sheet;

pub use ports::clash;
pub(crate) use ports::{Socket, needs_token, taken};

/// Checks the whole of a config.
pub(crate) fn check(sheet: &Sheet<'_>, draft: &Draft) {
    names::apart(sheet, draft);
    let mut reach = stacks::check(sheet, draft);
    routing::check(sheet, draft, &mut reach);
    names::unused(sheet, draft, &reach);
    own::check(sheet, draft);
    own::held_twice(sheet, draft);
    ports::check(sheet, draft);
}
