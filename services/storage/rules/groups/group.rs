//! A group and its members, loaded to decide a command.

use std::sync::Arc;

use kernel::ErrorCode;

use super::pending::Pending;
use super::protocols;
use crate::commands::{MemberIdentity, Refused};
use crate::documents::{
    ConsumerMember, Deadline, GroupDocument, GroupState, InitialDelay, MemberDocument, MemberKey,
};
use crate::groups::view::GroupView;
use crate::working_set::WorkingSet;

/// A group and its members, in the order in which they joined.
pub(super) struct Group {
    name: Arc<str>,
    pub(super) document: GroupDocument,
    stored: Option<Arc<GroupDocument>>,
    members: Vec<Member>,
    removed: Vec<Arc<str>>,
    pending: Pending,
}

struct Member {
    id: Arc<str>,
    document: Arc<MemberDocument>,
    stored: Option<Arc<MemberDocument>>,
}

impl Member {
    fn is_changed(&self) -> bool {
        self.stored.as_ref() != Some(&self.document)
    }
}

/// The keys of a group's members.
pub(super) fn member_keys(group: &Arc<str>, set: &WorkingSet<'_>) -> Vec<MemberKey> {
    let members = set.get::<GroupDocument>(group).into_iter().flat_map(|document| &document.members);
    members.map(|member| MemberKey { group: Arc::clone(group), member: Arc::clone(member) }).collect()
}

pub(super) fn unknown_member() -> Refused {
    ErrorCode::UnknownMemberId.into()
}

impl Group {
    /// Loads the group; `None` if it does not exist.
    pub(super) fn load(set: &WorkingSet<'_>, name: &Arc<str>) -> Option<Self> {
        let members = &set.get::<GroupDocument>(name)?.members;
        Self::load_with(set, name, members)
    }

    /// Loads the group with some of its members, to be read only.
    pub(super) fn load_with(set: &WorkingSet<'_>, name: &Arc<str>, members: &[Arc<str>]) -> Option<Self> {
        let stored = set.get_arc::<GroupDocument>(name)?;
        let member = |id: &Arc<str>| {
            let key = MemberKey { group: Arc::clone(name), member: Arc::clone(id) };
            let document = set.get_arc::<MemberDocument>(&key)?;
            Some(Member { id: Arc::clone(id), stored: Some(Arc::clone(&document)), document })
        };
        let members = members.iter().filter_map(member).collect();
        let document = (*stored).clone();
        let (removed, pending) = (Vec::new(), Pending::default());
        Some(Self { name: Arc::clone(name), document, stored: Some(stored), members, removed, pending })
    }

    /// The group of a view. Changes to it are discarded.
    pub(super) fn of_view(view: &GroupView) -> Self {
        let member = |(id, document): &(Arc<str>, Arc<MemberDocument>)| Member {
            id: Arc::clone(id),
            document: Arc::clone(document),
            stored: None,
        };
        let members = view.members.iter().map(member).collect();
        let document = (*view.group).clone();
        let (removed, pending) = (Vec::new(), Pending::default());
        Self { name: Arc::from(""), document, stored: None, members, removed, pending }
    }

    /// A new, empty group.
    pub(super) fn new(name: &Arc<str>, now_ms: i64) -> Self {
        let document = GroupDocument::empty(now_ms);
        let (members, removed, pending) = (Vec::new(), Vec::new(), Pending::default());
        Self { name: Arc::clone(name), document, stored: None, members, removed, pending }
    }

    /// Loads those of some ids that are pending (KIP-394). Until then none is known.
    pub(super) fn load_pending<'a>(
        &mut self,
        set: &WorkingSet<'_>,
        ids: impl IntoIterator<Item = &'a Arc<str>>,
    ) {
        ids.into_iter().for_each(|id| self.pending.load(set, &self.name, id));
    }

    /// Loads all pending ids.
    pub(super) fn load_all_pending(&mut self, set: &WorkingSet<'_>) {
        self.pending.load_all(set, &self.name);
    }

    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.has(id)
    }

    pub(super) fn add_pending(&mut self, id: &Arc<str>, until_ms: i64) {
        self.pending.add(&mut self.document, id, until_ms);
    }

    /// Ends all pending ids, which are loaded.
    pub(super) fn clear_pending(&mut self) {
        self.pending.clear(&mut self.document);
    }

    /// Ends the pending ids that were not used in time. All are loaded.
    pub(super) fn expire_pending(&mut self, now_ms: i64) {
        for id in self.pending.expired(now_ms) {
            self.remove_pending(&id, now_ms);
        }
        self.pending.note_next(&mut self.document);
    }

    /// Writes the changed documents to the set.
    pub(super) fn store(mut self, set: &mut WorkingSet<'_>) {
        self.document.members = self.members.iter().map(|member| Arc::clone(&member.id)).collect();
        let key = |member: &Arc<str>| MemberKey { group: Arc::clone(&self.name), member: Arc::clone(member) };
        for id in &self.removed {
            if self.document.members.iter().all(|member| member != id) {
                set.delete::<MemberDocument>(&key(id));
            }
        }
        for member in self.members.iter().filter(|member| member.is_changed()) {
            set.put::<MemberDocument>(&key(&member.id), Arc::clone(&member.document));
        }
        if self.stored.as_deref() != Some(&self.document) {
            set.put::<GroupDocument>(&self.name, self.document);
        }
        self.pending.store(set, &self.name);
    }

    /// Group epoch of a group of the consumer protocol.
    pub(super) fn group_epoch(&self) -> i32 {
        self.document.generation
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().map(|member| &member.id)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Arc<str>, &MemberDocument)> {
        self.members.iter().map(|member| (&member.id, &*member.document))
    }

    /// The documents of all members.
    pub(super) fn documents(&self) -> Vec<&MemberDocument> {
        self.members().map(|(_, member)| member).collect()
    }

    pub(super) fn member(&self, id: &str) -> Option<&MemberDocument> {
        self.members.iter().find(|member| &*member.id == id).map(|member| &*member.document)
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut MemberDocument> {
        let member = self.members.iter_mut().find(|member| &*member.id == id)?;
        Some(Arc::make_mut(&mut member.document))
    }

    /// A member's state in a group of the consumer protocol.
    pub(super) fn consumer(&self, id: &str) -> Option<&ConsumerMember> {
        self.member(id)?.consumer.as_deref()
    }

    /// The same, mutable.
    pub(super) fn consumer_mut(&mut self, id: &str) -> Option<&mut ConsumerMember> {
        self.member_mut(id)?.consumer.as_deref_mut()
    }

    /// Changes every member.
    pub(super) fn each(&mut self, mut change: impl FnMut(&mut MemberDocument)) {
        for member in &mut self.members {
            change(Arc::make_mut(&mut member.document));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn count_joined(&self) -> usize {
        self.members().filter(|(_, member)| member.has_joined).count()
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.document.leader.as_deref() == Some(id)
    }

    /// The member id of a static member.
    pub(super) fn id_of_instance(&self, instance: &str) -> Option<&Arc<str>> {
        let mut members = self.members();
        members.find(|(_, member)| member.instance_id.as_deref() == Some(instance)).map(|(id, _)| id)
    }

    /// Checks that a request comes from a member.
    pub(super) fn check_member(&self, member: &MemberIdentity) -> Result<(), Refused> {
        match &member.instance_id {
            None if self.member(&member.id).is_some() => Ok(()),
            None => Err(unknown_member()),
            Some(instance) => match self.id_of_instance(instance) {
                Some(id) if *id == member.id => Ok(()),
                // Another member has taken its group instance id.
                Some(_) => Err(ErrorCode::FencedInstanceId.into()),
                None => Err(unknown_member()),
            },
        }
    }

    /// The member that leaves. An admin removes a static member by its group instance id.
    pub(super) fn leaving_member(&self, member: &MemberIdentity) -> Result<Arc<str>, ErrorCode> {
        match &member.instance_id {
            Some(instance) if member.id.is_empty() => {
                self.id_of_instance(instance).cloned().ok_or(ErrorCode::UnknownMemberId)
            }
            _ => {
                self.check_member(member).map_err(|refused| refused.error)?;
                Ok(Arc::clone(&member.id))
            }
        }
    }

    pub(super) fn add(&mut self, id: Arc<str>, document: MemberDocument) {
        self.pending.remove(&mut self.document, &id);
        if self.document.leader.is_none() && self.document.consumer.is_none() {
            self.document.leader = Some(Arc::clone(&id));
        }
        self.members.push(Member { id, document: Arc::new(document), stored: None });
    }

    /// Gives a static member another member id: the client that had the old one is fenced.
    pub(super) fn rename(&mut self, old: &Arc<str>, new: &Arc<str>) {
        if self.is_leader(old) {
            self.document.leader = Some(Arc::clone(new));
        }
        if let Some(member) = self.members.iter_mut().find(|member| member.id == *old) {
            member.id = Arc::clone(new);
            member.stored = None;
            self.removed.push(Arc::clone(old));
        }
    }

    /// Removes a member and starts the rebalance that this causes.
    pub(super) fn remove(&mut self, id: &str, now_ms: i64) {
        self.take_out(id);
        match self.document.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(0, now_ms),
            GroupState::PreparingRebalance => self.complete_if_all_joined(now_ms),
            GroupState::Empty | GroupState::Assigning | GroupState::Reconciling => {}
        }
    }

    /// Removes a member without a rebalance.
    pub(super) fn take_out(&mut self, id: &str) {
        let Some(index) = self.members.iter().position(|member| &*member.id == id) else { return };
        self.removed.push(self.members.remove(index).id);
        if self.is_leader(id) {
            self.document.leader = self.members.first().map(|member| Arc::clone(&member.id));
        }
    }

    /// Removes a pending member id (KIP-394) that was not used.
    pub(super) fn remove_pending(&mut self, id: &str, now_ms: i64) {
        self.pending.remove(&mut self.document, id);
        self.complete_if_all_joined(now_ms);
    }

    fn enter(&mut self, state: GroupState, now_ms: i64) {
        self.document.state = state;
        self.document.since_ms = now_ms;
        self.document.deadline = None;
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members().map(|(_, member)| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// Starts a rebalance: all members must rejoin. A group that was empty waits for more members.
    pub(super) fn prepare(&mut self, initial_delay_ms: i64, now_ms: i64) {
        let was_empty = self.document.state == GroupState::Empty;
        if self.document.state == GroupState::CompletingRebalance {
            // No member has received the new assignments, and the old ones are no longer valid.
            self.each(|member| member.assignment = Default::default());
        }
        let timeout_ms = self.rebalance_timeout_ms();
        self.enter(GroupState::PreparingRebalance, now_ms);
        if !was_empty {
            self.document.deadline = Some(Deadline { at_ms: now_ms + timeout_ms, initial: None });
            self.complete_if_all_joined(now_ms);
            return;
        }
        let initial = InitialDelay {
            step_ms: initial_delay_ms,
            left_ms: (timeout_ms - initial_delay_ms).max(0),
            has_newcomer: false,
        };
        self.document.deadline = Some(Deadline { at_ms: now_ms + initial_delay_ms, initial: Some(initial) });
        self.end_if_late(now_ms);
    }

    /// Starts the next generation if all members have joined.
    pub(super) fn complete_if_all_joined(&mut self, now_ms: i64) {
        let is_initial = self.document.deadline.is_some_and(|deadline| deadline.initial.is_some());
        let all_joined = self.count_joined() == self.count() && self.document.pending_ids.is_none();
        if self.document.state == GroupState::PreparingRebalance && !is_initial && all_joined {
            self.complete(now_ms);
        }
    }

    /// Applies the group's deadline if it has passed.
    pub(super) fn end_if_late(&mut self, now_ms: i64) {
        let Some(deadline) = self.document.deadline.filter(|deadline| deadline.at_ms <= now_ms) else {
            return;
        };
        match (self.document.state, deadline.initial) {
            (GroupState::PreparingRebalance, Some(initial))
                if initial.has_newcomer && initial.left_ms > 0 =>
            {
                let step_ms = initial.step_ms.min(initial.left_ms);
                let left_ms = (initial.left_ms - initial.step_ms).max(0);
                let initial = InitialDelay { left_ms, has_newcomer: false, ..initial };
                self.document.deadline = Some(Deadline { at_ms: now_ms + step_ms, initial: Some(initial) });
            }
            (GroupState::PreparingRebalance, _) => self.complete(now_ms),
            (GroupState::CompletingRebalance | GroupState::Stable, _) => self.remove_unsynced(now_ms),
            (GroupState::Empty | GroupState::Assigning | GroupState::Reconciling, _) => {
                self.document.deadline = None;
            }
        }
    }

    /// Starts the next generation with the members that have joined. Static members need not have joined
    /// (KIP-345).
    fn complete(&mut self, now_ms: i64) {
        let late = self.members().filter(|(_, member)| !member.has_joined && member.instance_id.is_none());
        for id in late.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
            self.take_out(&id);
        }
        if !self.elect_joined_leader() && self.count() > 0 {
            // Only static members are left and none has rejoined: they stay until their session timeout.
            let at_ms = now_ms + self.rebalance_timeout_ms();
            self.document.deadline = Some(Deadline { at_ms, initial: None });
            return;
        }
        self.document.generation = self.document.generation.wrapping_add(1).max(0);
        if self.count() == 0 {
            (self.document.protocol, self.document.leader) = (None, None);
            self.enter(GroupState::Empty, now_ms);
            return;
        }
        self.document.protocol = protocols::select(&self.documents());
        self.enter(GroupState::CompletingRebalance, now_ms);
        let at_ms = now_ms + self.rebalance_timeout_ms();
        self.document.deadline = Some(Deadline { at_ms, initial: None });
        self.each(|member| {
            (member.has_joined, member.has_synced) = (false, false);
            member.lease_ms = now_ms + i64::from(member.session_timeout_ms);
        });
    }

    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.document.leader.as_deref().and_then(|leader| self.member(leader));
        if leader.is_some_and(|leader| leader.has_joined) {
            return true;
        }
        let joined = self.members().find(|(_, member)| member.has_joined).map(|(id, _)| Arc::clone(id));
        let is_found = joined.is_some();
        if is_found {
            self.document.leader = joined;
        }
        is_found
    }

    /// Removes members that joined but did not send SyncGroup in time.
    fn remove_unsynced(&mut self, now_ms: i64) {
        self.document.deadline = None;
        let unsynced = self.members().filter(|(_, member)| !member.has_synced);
        let unsynced: Vec<_> = unsynced.map(|(id, _)| Arc::clone(id)).collect();
        if unsynced.is_empty() {
            return;
        }
        unsynced.iter().for_each(|id| self.take_out(id));
        self.prepare(0, now_ms);
    }

    /// The leader has assigned: the group becomes Stable.
    pub(super) fn settle(&mut self, now_ms: i64) {
        let deadline = self.document.deadline;
        self.enter(GroupState::Stable, now_ms);
        self.document.deadline = deadline;
    }
}
