//! Expiry of idempotent producers. The rules see when a producer has last produced; nothing is looked up before.

use rules::commands::{Applied, Command};
use rules::documents::DueSubject;

use super::{Kind, Maintained, Run, Taken};
use crate::engines::StoreError;

pub(super) const KIND: Kind =
    Kind { name: DueSubject::PRODUCER, look: |run, taken| Box::pin(look(run, taken)) };

async fn look(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let expire = |Taken { subject, at_ms }: Taken| match subject {
        DueSubject::Producer(producer) => {
            Some(Command::ExpireProducer { producer, taken_ms: Some(at_ms), now_ms: run.now_ms })
        }
        _ => None,
    };
    let outcomes = run.commit(taken.into_iter().filter_map(expire).collect()).await?;
    let expired = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Applied::ProducerExpired(true))));
    Ok(Maintained { producers_expired: expired.count(), ..Maintained::default() })
}
