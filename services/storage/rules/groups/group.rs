//! A group and those of its members that a command looks at.
//!
//! Members are documents of their own. A command loads the few that it names; what must be known of all others is in the
//! group's [`Tally`]. Only what happens once per rebalance loads all of them: [`Group::load_all`].

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId};

use super::assigned::Assigned;
use super::instances::Instances;
use super::live;
use super::lookups::Lookups;
use super::pending::Pending;
use super::tally::{Subscription, recount, recount_topics};
use crate::commands::{MemberIdentity, Refused};
use crate::documents::{
    ConsumerMember, Document, DocumentKind, GroupDocument, GroupTopics, MemberDocument, MemberKey,
    PendingDocument, Tally,
};
use crate::working_set::Changes;

/// A group and some of its members.
pub(super) struct Group<'a> {
    name: Arc<str>,
    lookups: Lookups<'a>,
    pub(super) document: GroupDocument,
    stored: Option<Arc<GroupDocument>>,
    members: BTreeMap<Arc<str>, Member>,
    is_whole: bool,
    topics: Option<Topics>,
    instances: Instances,
    assigned: Assigned,
    pending: Pending,
    /// The wall clock's time, if the command may empty the group.
    pub(super) wall_ms: Option<i64>,
}

/// A member as stored and as it is to be stored; `None` is no member.
#[derive(Default)]
struct Member {
    stored: Option<Arc<MemberDocument>>,
    document: Option<Arc<MemberDocument>>,
}

/// The group's topics as stored and as they are to be stored.
struct Topics {
    stored: Option<Arc<GroupTopics>>,
    document: Arc<GroupTopics>,
}

pub(super) fn unknown_member() -> Refused {
    ErrorCode::UnknownMemberId.into()
}

impl<'a> Group<'a> {
    /// Loads the group without its members; `None` if it does not exist.
    pub(super) fn load(lookups: Lookups<'a>, name: &Arc<str>) -> Option<Self> {
        let stored = lookups.get::<GroupDocument>(name)?;
        let document = (*stored).clone();
        Some(Self { stored: Some(stored), ..Self::of(lookups, name, document) })
    }

    /// A new, empty group.
    pub(super) fn new(lookups: Lookups<'a>, name: &Arc<str>, now_ms: i64) -> Self {
        Self::of(lookups, name, GroupDocument::empty(now_ms))
    }

    fn of(lookups: Lookups<'a>, name: &Arc<str>, document: GroupDocument) -> Self {
        Self {
            name: Arc::clone(name),
            lookups,
            document,
            stored: None,
            members: BTreeMap::new(),
            is_whole: false,
            topics: None,
            instances: Instances::default(),
            assigned: Assigned::default(),
            pending: Pending::default(),
            wall_ms: None,
        }
    }

    // --- loading

    /// Loads a member, if the group has it.
    pub(super) fn load_member(&mut self, id: &Arc<str>) {
        if self.members.contains_key(id) {
            return;
        }
        let stored = self.lookups.get::<MemberDocument>(&self.key(id));
        let mut document = stored.clone();
        if let Some(member) = &mut document
            && self.document.has_void_assignments
        {
            Arc::make_mut(member).assignment = Default::default();
        }
        self.members.insert(Arc::clone(id), Member { stored, document });
    }

    /// Loads all members. To be called once per rebalance at most: it costs as much as the group has members.
    pub(super) fn load_all(&mut self) {
        if self.has_all() {
            return;
        }
        let prefix = MemberDocument::of_group(&self.name);
        let Some(keys) = self.lookups.keys::<MemberDocument>(prefix) else { return };
        keys.iter().for_each(|key| self.load_member(&key.member));
        self.is_whole = true;
    }

    /// Whether all members are loaded.
    pub(super) fn has_all(&self) -> bool {
        let loaded = || self.members.values().filter(|member| member.document.is_some()).count();
        self.is_whole || (self.document.tally.is_some() && loaded() == self.count())
    }

    /// Counts the members of a group that an earlier release wrote, once: see the field `tally` of the document.
    pub(super) fn ensure_tally(&mut self) {
        if self.document.tally.is_some() {
            return;
        }
        self.load_all();
        if !self.is_whole {
            return;
        }
        self.document.members = 0;
        // In which order they have joined is not known any more.
        self.document.tally = Some(Arc::new(Tally { next_order: 1, ..Tally::EMPTY }));
        let members: Vec<_> =
            self.members.iter().map(|(id, own)| (Arc::clone(id), own.document.clone())).collect();
        for (id, document) in members {
            self.note_change(&id, None, document.as_deref());
        }
    }

    /// Loads the topics that members of a group of the consumer protocol subscribe to.
    pub(super) fn load_topics(&mut self) {
        if self.topics.is_some() {
            return;
        }
        let stored = self.lookups.get::<GroupTopics>(&self.name);
        let document = GroupTopics::of(&self.document, stored.clone());
        if let Some(consumer) = &mut self.document.consumer
            && !(consumer.topics.is_empty() && consumer.regexes.is_empty())
        {
            let consumer = Arc::make_mut(consumer);
            consumer.topics.clear();
            consumer.regexes.clear();
        }
        self.topics = Some(Topics { stored, document });
    }

    fn key(&self, member: &Arc<str>) -> MemberKey {
        MemberKey { group: Arc::clone(&self.name), member: Arc::clone(member) }
    }

    // --- pending member ids (KIP-394)

    /// Loads those of some ids that are pending. Until then none is known.
    pub(super) fn load_pending<'b>(&mut self, ids: impl IntoIterator<Item = &'b Arc<str>>) {
        ids.into_iter().for_each(|id| self.pending.load(self.lookups, &self.name, id));
    }

    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.has(id)
    }

    pub(super) fn add_pending(&mut self, id: &Arc<str>, pending: PendingDocument) {
        self.pending.add(&mut self.document, id, pending);
    }

    /// Ends a pending id.
    pub(super) fn end_pending(&mut self, id: &str) {
        self.pending.remove(&mut self.document, id);
    }

    /// Ends all pending ids.
    pub(super) fn clear_pending(&mut self) {
        if self.document.pending_ids.is_some() {
            self.pending.load_all(self.lookups, &self.name);
        }
        self.pending.clear(&mut self.document);
    }

    /// The pending ids that were not used in time. Loads all of them.
    pub(super) fn expired_pending(&mut self, now_ms: i64) -> Vec<Arc<str>> {
        self.pending.load_all(self.lookups, &self.name);
        self.pending.expired(now_ms)
    }

    /// Gives each pending id its whole time anew, from now. Loads all of them.
    pub(super) fn restart_pending(&mut self, now_ms: i64) {
        if self.document.pending_ids.is_some() {
            self.pending.load_all(self.lookups, &self.name);
            self.pending.restart(&mut self.document, now_ms);
        }
    }

    /// Notes when the next pending id expires. All of them are loaded.
    pub(super) fn note_next_pending(&mut self) {
        self.pending.note_next(&mut self.document);
    }

    // --- the result

    /// The changed documents.
    pub(super) fn into_changes(self) -> Changes {
        let mut changes = Changes::new();
        for (id, Member { stored, document }) in self.members {
            if stored != document {
                let key = MemberKey { group: Arc::clone(&self.name), member: id };
                changes.insert(MemberDocument::key(&key), document.map(Document::new::<MemberDocument>));
            }
        }
        if let Some(Topics { stored, document }) = self.topics {
            let is_kept = self.document.consumer.is_some() && *document != GroupTopics::NONE;
            let document = Some(document).filter(|_| is_kept);
            if stored != document {
                changes.insert(GroupTopics::key(&self.name), document.map(Document::new::<GroupTopics>));
            }
        }
        self.instances.add_changes(&self.name, &mut changes);
        self.assigned.add_changes(&self.name, &mut changes);
        self.pending.add_changes(&self.name, &mut changes);
        if self.stored.as_deref() != Some(&self.document) {
            live::note(&self.name, self.stored.as_deref(), &self.document, &mut changes);
            let document = Document::new::<GroupDocument>(self.document);
            changes.insert(GroupDocument::key(&self.name), Some(document));
        }
        changes
    }

    // --- what it knows

    /// Group epoch of a group of the consumer protocol.
    pub(super) fn group_epoch(&self) -> i32 {
        self.document.generation
    }

    /// Whether the group epoch was bumped by this command.
    pub(super) fn has_new_epoch(&self) -> bool {
        self.stored.as_ref().is_none_or(|stored| stored.generation != self.document.generation)
    }

    /// How many members the group has.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.document.members).unwrap_or(usize::MAX)
    }

    /// What is known of all members.
    pub(super) fn tally(&self) -> &Tally {
        self.document.tally()
    }

    /// The topics that members subscribe to, which are loaded.
    pub(super) fn topics(&self) -> &GroupTopics {
        static NONE: GroupTopics = GroupTopics::NONE;
        self.topics.as_ref().map_or(&NONE, |topics| &*topics.document)
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.document.leader.as_deref() == Some(id)
    }

    // --- members that are loaded

    /// The members that are loaded, in the order in which they joined.
    pub(super) fn members(&self) -> Vec<(&Arc<str>, &MemberDocument)> {
        let present = self.members.iter().filter_map(|(id, own)| Some((id, own.document.as_deref()?)));
        let mut members: Vec<_> = present.collect();
        members.sort_by_key(|(_, member)| member.order);
        members
    }

    /// Their ids, in that order.
    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.members().into_iter().map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Their documents, in that order.
    pub(super) fn documents(&self) -> Vec<&MemberDocument> {
        self.members().into_iter().map(|(_, member)| member).collect()
    }

    /// A member that is loaded.
    pub(super) fn member(&self, id: &str) -> Option<&MemberDocument> {
        self.members.get(id)?.document.as_deref()
    }

    /// Its state in a group of the consumer protocol.
    pub(super) fn consumer(&self, id: &str) -> Option<&ConsumerMember> {
        self.member(id)?.consumer.as_deref()
    }

    /// The member id of a static member, which is loaded.
    pub(super) fn id_of_instance(&mut self, instance: &Arc<str>) -> Option<Arc<str>> {
        // A group that an earlier release wrote has no documents of its static members until then.
        self.ensure_tally();
        let id = self.instances.member(self.lookups, &self.name, instance)?;
        self.load_member(&id);
        Some(id)
    }

    /// Whether a partition is assigned to another member, or that member has yet to revoke it.
    pub(super) fn is_taken(&mut self, but: &str, at: (TopicId, i32)) -> bool {
        self.assigned.is_taken(self.lookups, (&self.name, but), at)
    }

    /// Checks that a request comes from a member, which is loaded.
    pub(super) fn check_member(&mut self, member: &MemberIdentity) -> Result<(), Refused> {
        match &member.instance_id {
            None if self.member(&member.id).is_some() => Ok(()),
            None => Err(unknown_member()),
            Some(instance) => match self.id_of_instance(instance) {
                Some(id) if id == member.id => Ok(()),
                // Another member has taken its group instance id.
                Some(_) => Err(ErrorCode::FencedInstanceId.into()),
                None => Err(unknown_member()),
            },
        }
    }

    /// The member that leaves. An admin removes a static member by its group instance id.
    pub(super) fn leaving_member(&mut self, member: &MemberIdentity) -> Result<Arc<str>, ErrorCode> {
        match &member.instance_id {
            Some(instance) if member.id.is_empty() => {
                self.id_of_instance(instance).ok_or(ErrorCode::UnknownMemberId)
            }
            _ => {
                self.check_member(member).map_err(|refused| refused.error)?;
                Ok(Arc::clone(&member.id))
            }
        }
    }

    // --- changes of members: all go through `put`, which keeps the counts up to date

    fn put(&mut self, id: &Arc<str>, after: Option<Arc<MemberDocument>>) {
        self.load_member(id);
        let own = self.members.entry(Arc::clone(id)).or_default();
        let before = std::mem::replace(&mut own.document, after.clone());
        self.note_change(id, before.as_deref(), after.as_deref());
    }

    fn note_change(
        &mut self,
        id: &Arc<str>,
        before: Option<&MemberDocument>,
        after: Option<&MemberDocument>,
    ) {
        let count = &mut self.document.members;
        match (before, after) {
            (None, Some(_)) => *count = count.saturating_add(1),
            (Some(_), None) => *count = count.saturating_sub(1),
            _ => {}
        }
        let target_epoch = self.document.consumer.as_ref().map(|own| own.assignment_epoch);
        let tally = self.document.tally.get_or_insert_with(Arc::default);
        recount(tally, before, after, target_epoch);
        let (subscribed_before, subscribes) = (Subscription::of(before), Subscription::of(after));
        if subscribed_before != subscribes {
            self.change_topics(|topics| recount_topics(topics, &subscribed_before, &subscribes));
        }
        self.instances.note(self.lookups, (&self.name, id), before, after);
        self.assigned.note(self.lookups, (&self.name, id), before, after);
    }

    /// Changes a member that is loaded.
    pub(super) fn change(&mut self, id: &Arc<str>, change: impl FnOnce(&mut MemberDocument)) {
        if let Some(before) = self.member(id) {
            let mut after = before.clone();
            change(&mut after);
            self.put(id, Some(Arc::new(after)));
        }
    }

    /// Changes the consumer protocol's state of a member that is loaded.
    pub(super) fn change_consumer(&mut self, id: &Arc<str>, change: impl FnOnce(&mut ConsumerMember)) {
        self.change(id, |member| {
            if let Some(own) = member.consumer.as_deref_mut() {
                change(own);
            }
        });
    }

    /// Changes the topics that members subscribe to, and loads them before.
    pub(super) fn change_topics(&mut self, change: impl FnOnce(&mut Arc<GroupTopics>)) {
        self.load_topics();
        if let Some(topics) = &mut self.topics {
            change(&mut topics.document);
        }
    }

    /// Changes every member that is loaded.
    pub(super) fn each(&mut self, change: impl Fn(&mut MemberDocument)) {
        self.ids().iter().for_each(|id| self.change(id, &change));
    }

    /// The target assignment is now that of an epoch, which no member has reached yet.
    pub(super) fn enter_target_epoch(&mut self, epoch: i32) {
        if let Some(consumer) = &mut self.document.consumer {
            Arc::make_mut(consumer).assignment_epoch = epoch;
        }
        if let Some(tally) = &mut self.document.tally {
            Arc::make_mut(tally).reconciled = 0;
        }
    }

    /// Adds a member.
    pub(super) fn add(&mut self, id: &Arc<str>, mut document: MemberDocument) {
        self.end_pending(id);
        // An earlier leader may have left: the next generation elects one of those that have joined.
        if self.count() == 0 && self.document.consumer.is_none() {
            self.document.leader = Some(Arc::clone(id));
        }
        let tally = Arc::make_mut(self.document.tally.get_or_insert_with(Arc::default));
        document.order = tally.next_order;
        tally.next_order += 1;
        self.put(id, Some(Arc::new(document)));
    }

    /// Gives a static member another member id: the client that had the old one is fenced.
    pub(super) fn rename(&mut self, old: &Arc<str>, new: &Arc<str>) {
        if self.is_leader(old) {
            self.document.leader = Some(Arc::clone(new));
        }
        let document = self.members.get(old).and_then(|own| own.document.clone());
        if let Some(document) = document.filter(|_| old != new) {
            self.put(old, None);
            self.put(new, Some(document));
        }
    }

    /// Removes a member without a rebalance. If it has led, the next generation elects a leader.
    pub(super) fn take_out(&mut self, id: &Arc<str>) {
        if self.member(id).is_none() {
            return;
        }
        self.put(id, None);
        if self.is_leader(id) {
            self.document.leader = None;
        }
    }
}
