//! Offsets that were committed for topics of this store that were deleted. Those for deleted topics of other services are
//! found when their group is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use rules::documents::{DocumentKind, DueSubject, OffsetDocument};

use super::{Kind, Maintained, PAGE, Run, Taken, offsets};
use crate::engines::StoreError;

pub(super) const KIND: Kind =
    Kind { name: DueSubject::DELETED_TOPIC, look: |run, taken| Box::pin(look(run, taken)) };

/// Offsets that are read at a time.
const OFFSETS_PAGE: usize = 4_096;

/// Deleted topics by the groups that have offsets of them.
type Groups = BTreeMap<Arc<str>, BTreeSet<TopicId>>;

/// One walk over all committed offsets, for all topics that were deleted since the last. It is the one look whose cost
/// grows with what is stored: offsets are found by their group, and an index of them by topic would cost every commit of
/// an offset another write.
async fn look(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let id = |taken: &Taken| match taken.subject {
        DueSubject::DeletedTopic(id) => Some(id),
        _ => None,
    };
    let deleted: BTreeSet<TopicId> = taken.iter().filter_map(id).collect();
    let (mut after, mut groups) = (None, Groups::new());
    loop {
        let page = run.broker.store.page::<OffsetDocument>(after.take(), OFFSETS_PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(OffsetDocument::key(last));
        for (key, offset) in page.into_iter().filter(|(_, offset)| deleted.contains(&offset.topic_id)) {
            groups.entry(key.group).or_default().insert(offset.topic_id);
        }
        if groups.len() >= PAGE {
            expire(run, std::mem::take(&mut groups)).await?;
        }
    }
    expire(run, groups).await?;
    run.commit(taken.into_iter().map(|taken| taken.done(None, run)).collect()).await?;
    Ok(Maintained::default())
}

async fn expire(run: Run<'_>, groups: Groups) -> Result<(), StoreError> {
    let commands = groups.into_iter().map(|(group, topics)| offsets::expire(run, &group, topics));
    run.commit(commands.collect()).await.map(drop)
}
