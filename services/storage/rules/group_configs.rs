//! Configs of groups: set, changed and removed (KIP-848).

use std::sync::Arc;

use crate::commands::{Applied, NewConfigs, Outcome};
use crate::configs;
use crate::configs::group::{self, GroupDefaults};
use crate::documents::GroupConfigs;
use crate::working_set::WorkingSet;

/// The group need not exist.
pub(crate) fn alter(
    set: &mut WorkingSet<'_>,
    name: &Arc<str>,
    change: &NewConfigs,
    defaults: GroupDefaults,
) -> Outcome {
    let configs = match change {
        NewConfigs::Replace(configs) => configs.clone(),
        NewConfigs::Incremental(operations) => {
            let before = set.get::<GroupConfigs>(name).cloned().unwrap_or_default();
            configs::apply(before.0, operations, group::list_default)?
        }
    };
    group::check(&configs, defaults)?;
    if configs.is_empty() {
        set.delete::<GroupConfigs>(name);
    } else {
        set.put::<GroupConfigs>(name, GroupConfigs(configs));
    }
    Ok(Applied::Changed)
}
