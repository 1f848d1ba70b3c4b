//! Consumer groups as the admin server shows them, at `/groups`.

use std::sync::Arc;

use rules::groups::GroupView;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::Committed;

/// The page's name.
pub(crate) const NAME: &str = "groups";

/// Groups that are shown, which bounds the page.
const GROUPS_SHOWN_MAX: usize = 1_000;

/// All groups of a store, with their members and their lag.
pub(crate) async fn groups(broker: &Broker) -> Result<Value, StoreError> {
    let (store, directory) = (&broker.store, broker.directory());
    let mut shown = Vec::new();
    for (id, _) in store.groups().await?.into_iter().take(GROUPS_SHOWN_MAX) {
        // It may have been deleted since.
        if let Some(view) = store.group(&id).await? {
            shown.push(group(&id, &view, &store.committed(&id, &*directory).await?));
        }
    }
    Ok(Value::Array(shown))
}

fn group(id: &Arc<str>, view: &GroupView, committed: &[Committed]) -> Value {
    let members = view.members.iter().map(|(id, member)| {
        json!({
            "member": &**id,
            "instance": member.instance_id.as_deref(),
            "client": &*member.client_id,
            "host": member.client_host.trim_start_matches('/'),
        })
    });
    let offsets = committed.iter().map(|one| {
        json!({
            "topic": &*one.topic,
            "partition": one.partition,
            "committed": one.offset,
            "end": one.end,
            "lag": (one.end - one.offset).max(0),
        })
    });
    json!({
        "group": &**id,
        "state": view.group.state.name(),
        "type": view.group.type_name(),
        "generation": view.group.generation,
        "assignor": view.assignor(),
        "members": members.collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
    })
}
