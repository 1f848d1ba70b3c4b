//! How the records of a topic are kept: as rows, or as the batches that were sent.

use std::collections::HashMap;

use kernel::TopicId;
use rules::Changes;
use rules::configs::LAYOUT;
use rules::documents::{Document, DocumentKind, TopicDocument, TopicName};
use tokio_postgres::Error;
use uuid::Uuid;

use super::session::Session;

const PUT: &str = "INSERT INTO topics SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, layout = excluded.layout";
const DELETE: &str = "DELETE FROM topics WHERE id = ANY($1::uuid[])";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 2] = [PUT, DELETE];

/// How records are kept. Each batch is kept as its topic said when it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A row for each record, which SQL can query.
    Rows,
    /// The bytes of the batch.
    Batches,
}

impl Layout {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Layout::Rows, Layout::Batches].into_iter().find(|layout| layout.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Layout::Rows => "rows",
            Layout::Batches => "batches",
        }
    }

    fn of(topic: &TopicDocument, default: Layout) -> Self {
        topic.configs.get(LAYOUT).and_then(|text| Self::parse(text)).unwrap_or(default)
    }
}

/// What a commit changes of topics.
#[derive(Default)]
pub(super) struct TopicChanges {
    ids: Vec<Uuid>,
    names: Vec<String>,
    layouts: Vec<&'static str>,
    deleted: Vec<Uuid>,
    /// The layouts of those that it has made or changed.
    pub(super) known: HashMap<TopicId, Layout>,
}

impl TopicChanges {
    pub(super) fn of(changes: &Changes, default: Layout) -> Self {
        let mut topics = Self::default();
        for (key, document) in changes {
            if let Some(topic) = document.as_ref().and_then(Document::get::<TopicDocument>) {
                let layout = Layout::of(topic, default);
                topics.ids.push(topic.id.0);
                topics.names.push(topic.name.to_string());
                topics.layouts.push(layout.name());
                topics.known.insert(topic.id, layout);
            } else if document.is_none()
                && let Some(id) = TopicName::parse_key(key)
            {
                topics.deleted.push(id.0);
            }
        }
        topics
    }

    /// Puts those that were made or changed.
    pub(super) async fn put(&self, session: &Session) -> Result<(), Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        session.execute(PUT, &[&self.ids, &self.names, &self.layouts]).await.map(drop)
    }

    /// Deletes those that are gone.
    pub(super) async fn delete(&self, session: &Session) -> Result<(), Error> {
        if self.deleted.is_empty() {
            return Ok(());
        }
        session.execute(DELETE, &[&self.deleted]).await.map(drop)
    }
}
