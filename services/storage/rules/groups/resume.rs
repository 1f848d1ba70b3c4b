//! Groups that were left in the middle of something, by a run of a broker that is over or by a process that stood still.
//!
//! Deadlines, pending ids and leases are store time, which begins anew with each run: where another run has set them
//! tells nothing. So everything that a group waits for begins anew, and takes its whole time from now, as after a
//! failover in Kafka. A group at rest needs no change: its members get a whole session from the broker's memory.

use super::consumer;
use super::group::Group;
use super::view::GroupView;
use crate::documents::MemberDocument;

/// Whether a group must be resumed before the first tick at this store time. Leases that begin in the future are of a
/// run whose clock was ahead: until then nobody would find out that the member is gone.
pub fn must_resume(view: &GroupView, now_ms: i64) -> bool {
    let is_ahead = |member: &MemberDocument| member.lease_ms > whole_lease_ms(member, now_ms);
    view.group.deadline.is_some()
        || view.group.pending_ids.is_some()
        || view.members.iter().any(|(_, member)| is_ahead(member))
}

/// When a lease ends that begins now.
fn whole_lease_ms(member: &MemberDocument, now_ms: i64) -> i64 {
    now_ms.saturating_add(i64::from(member.session_timeout_ms))
}

/// Begins everything that the group waits for anew.
pub(super) fn resume(group: &mut Group<'_>, now_ms: i64) {
    group.load_all();
    group.each(|member| member.lease_ms = member.lease_ms.min(whole_lease_ms(member, now_ms)));
    if group.document.consumer.is_some() {
        consumer::restart_due(group, now_ms);
    } else {
        group.restart_deadline(now_ms);
    }
    group.restart_pending(now_ms);
}
