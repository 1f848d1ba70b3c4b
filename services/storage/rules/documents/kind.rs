//! A kind of document: one declaration of its prefix, key, value, codec, version and lock root.
//!
//! A store keeps small values under ordered keys. A key is text: the kind's prefix, a slash, and the parts of
//! the typed key, so that all documents of a kind, or of one group, are adjacent and can be scanned. A value
//! is JSON, so that it can be read in a database shell, and so that a later release can add a field that
//! older documents lack.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{Key, KeyPart, Prefix};
use super::level::{FIRST_LEVEL, LEVEL};

/// What every kind of document declares, beside its value type.
pub trait DocumentKind:
    Serialize + DeserializeOwned + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The prefix of its keys, which is unique.
    const PREFIX: &'static str;
    /// The version of its value. Raised when an older release could no longer read it, or would lose some of it when it writes it
    /// back, as it does with a new field where brokers share a store; then [`DocumentKind::upgrade`] reads older ones.
    const VERSION: u32 = 1;
    /// The level of a store from which on that version is written; before, [`DocumentKind::write_before`] writes the one before
    /// it. The release that raises the version sets it to its own [`LEVEL`](super::LEVEL).
    const LEVEL: u32 = FIRST_LEVEL;
    /// Its typed key.
    type Key: KeyPart;

    /// The lock that covers a document. It must be held to change the document, on every engine that locks.
    fn lock_root(key: &Self::Key) -> LockRoot;

    /// Reads a value of an earlier version.
    ///
    /// # Errors
    /// The text is not such a value.
    fn upgrade(version: u32, json: &str) -> Result<Self, serde_json::Error> {
        let _ = version;
        serde_json::from_str(json)
    }

    /// Writes a value of the version before, for a release that knows no other.
    ///
    /// # Errors
    /// There is none.
    fn write_before(&self) -> Result<String, serde_json::Error> {
        Err(serde::ser::Error::custom(format!(
            "a {} cannot be written as the release before reads it",
            Self::PREFIX
        )))
    }

    /// What stands for a value that cannot be read, of a kind that can spare it; `None` if what needs it has to fail.
    fn in_place_of_damaged() -> Option<Self> {
        None
    }

    /// The key of a document as engines see it.
    fn key(key: &Self::Key) -> Key {
        Key::of(Self::PREFIX, key)
    }

    /// Parses a key of this kind.
    fn parse_key(key: &Key) -> Option<Self::Key> {
        key.parts_after(Self::PREFIX).and_then(Self::Key::read)
    }

    /// The prefix of all keys of this kind.
    fn prefix() -> Prefix {
        Prefix::of(Self::PREFIX)
    }
}

/// What is locked to change a document. Locks are taken in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockRoot {
    /// Documents that exist once per store.
    Store,
    /// A transactional id. What its transaction changes is locked after it.
    Transaction(Arc<str>),
    /// A topic, by name.
    TopicName(Arc<str>),
    /// A topic, by id.
    TopicId(TopicId),
    /// A partition.
    Partition(TopicPartition),
    /// A consumer group.
    Group(Arc<str>),
    /// Another resource that has configs, by its type and name.
    Resource(&'static str, Arc<str>),
}

/// A document of some kind, as engines keep it. Cloning shares it.
#[derive(Clone)]
pub struct Document(Arc<dyn AnyDocument>);

trait AnyDocument: Any + fmt::Debug + Send + Sync {
    fn write(&self, level: u32) -> Result<String, serde_json::Error>;
    fn equals(&self, other: &dyn AnyDocument) -> bool;
}

impl<T: DocumentKind> AnyDocument for T {
    fn write(&self, level: u32) -> Result<String, serde_json::Error> {
        let (version, json) = if level < T::LEVEL {
            (T::VERSION - 1, self.write_before()?)
        } else {
            (T::VERSION, serde_json::to_string(self)?)
        };
        Ok(if version == 1 { json } else { format!("{VERSION_MARK}{version} {json}") })
    }

    fn equals(&self, other: &dyn AnyDocument) -> bool {
        (other as &dyn Any).downcast_ref::<T>() == Some(self)
    }
}

/// Precedes the version of a value; JSON never begins with it. A value without it has version 1.
const VERSION_MARK: char = 'v';

impl Document {
    /// A document of this kind.
    pub fn new<T: DocumentKind>(value: impl Into<Arc<T>>) -> Self {
        Self(value.into())
    }

    /// The value, if it is of this kind.
    pub fn get<T: DocumentKind>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// The same, as an `Arc`.
    pub fn get_arc<T: DocumentKind>(&self) -> Option<Arc<T>> {
        let any: Arc<dyn Any + Send + Sync> = self.0.clone();
        any.downcast().ok()
    }

    /// Its text in a store that one process has.
    ///
    /// # Errors
    /// The value cannot be written, which is a bug of its kind.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        self.write_at(LEVEL)
    }

    /// Its text in a store of a level, which may be the one before this release's.
    ///
    /// # Errors
    /// The value cannot be written, which is a bug of its kind.
    pub fn write_at(&self, level: u32) -> Result<String, serde_json::Error> {
        self.0.write(level)
    }

    /// Reads the text of a document of this kind.
    ///
    /// # Errors
    /// It was written by a newer release, or does not parse as this kind.
    pub fn read<T: DocumentKind>(text: &str) -> Result<Self, ReadError> {
        let (version, json) = split_version(text)?;
        let value = match version {
            version if version > T::VERSION => return Err(ReadError::Newer { version, known: T::VERSION }),
            version if version < T::VERSION => T::upgrade(version, json),
            _ => serde_json::from_str::<T>(json),
        };
        let damaged = |error: serde_json::Error| ReadError::Damaged(error.to_string());
        let value = value.or_else(|error| T::in_place_of_damaged().ok_or_else(|| damaged(error)));
        value.map(Self::new::<T>)
    }
}

fn split_version(text: &str) -> Result<(u32, &str), ReadError> {
    let Some(rest) = text.strip_prefix(VERSION_MARK) else { return Ok((1, text)) };
    let parsed = rest.split_once(' ').and_then(|(version, json)| Some((version.parse().ok()?, json)));
    parsed.ok_or_else(|| ReadError::Damaged("its version cannot be read".to_owned()))
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.equals(&*other.0)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// A newer release wrote it.
    Newer {
        /// Its version.
        version: u32,
        /// The latest version that this release knows.
        known: u32,
    },
    /// It does not parse as its kind.
    Damaged(String),
    /// No kind has its prefix.
    UnknownKind,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Newer { version, known } => {
                write!(
                    f,
                    "it was written by a newer release (version {version}, this one reads up to {known})"
                )
            }
            ReadError::Damaged(why) => f.write_str(why),
            ReadError::UnknownKind => f.write_str("its key is not one of ours"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A registered kind, type-erased.
pub struct AnyKind {
    prefix: &'static str,
    version: u32,
    level: u32,
    read: fn(&str) -> Result<Document, ReadError>,
    lock_root: fn(&Key) -> Option<LockRoot>,
}

impl AnyKind {
    /// Erases a kind's type.
    pub const fn of<T: DocumentKind>() -> Self {
        Self {
            prefix: T::PREFIX,
            version: T::VERSION,
            level: T::LEVEL,
            read: Document::read::<T>,
            lock_root: lock_root_of::<T>,
        }
    }

    /// The prefix of its keys.
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The version of its values, and the level of stores from which on it is written.
    pub fn version(&self) -> (u32, u32) {
        (self.version, self.level)
    }

    /// The key of the only document of this kind, if there is no more than one: a scan does not find it.
    pub fn only_key(&self) -> Option<Key> {
        let key = Key::from_text(self.prefix);
        (self.lock_root)(&key).map(|_| key)
    }

    /// The prefix of all its keys, for a scan.
    pub fn key_prefix(&self) -> Prefix {
        Prefix::of(self.prefix)
    }

    /// Reads a document of this kind; `None` if the key is not one of its keys.
    pub(super) fn read(&self, key: &Key, text: &str) -> Option<Result<Document, ReadError>> {
        (self.lock_root)(key).map(|_| (self.read)(text))
    }

    /// The lock of a document of this kind; `None` if the key is not one of its keys.
    pub(super) fn lock_root(&self, key: &Key) -> Option<LockRoot> {
        (self.lock_root)(key)
    }
}

fn lock_root_of<T: DocumentKind>(key: &Key) -> Option<LockRoot> {
    T::parse_key(key).map(|key| T::lock_root(&key))
}
