//! A config file while it is being read: its values with their places, and the faults found so far.
//!
//! Every step reports to the sheet and goes on, so that one run shows all faults.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Faults};
use crate::syntax;

/// A value and the bytes of the file that it stands in.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// A string in the file.
#[derive(Debug, Clone)]
pub(crate) struct Word<'s> {
    /// The text, with variables put in.
    pub(crate) text: &'s str,
    /// Where it stands.
    pub(crate) span: Range<usize>,
}

pub(crate) struct Sheet<'t> {
    name: &'t str,
    text: &'t str,
    /// The file's values, by table.
    pub(crate) root: DeTable<'t>,
    /// Where the values with an unset variable begin. Each is one fault and is not checked further.
    pub(crate) unresolved: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
}

impl<'t> Sheet<'t> {
    /// Reads a TOML document.
    ///
    /// # Errors
    /// All faults of syntax. They end the reading: what a file means beyond them is guesswork, and to report guesses
    /// would bury the cause.
    pub(crate) fn parse(name: &'t str, text: &'t str) -> Result<Self, Faults> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let faults = RefCell::default();
        let sheet = Sheet { name, text, root: root.into_inner(), unresolved: Vec::new(), faults };
        for (span, message) in syntax::faults(text, &errors) {
            sheet.fault(span, format!("this is not TOML: {message}"));
        }
        if errors.is_empty() { Ok(sheet) } else { Err(Faults(sheet.into_faults())) }
    }

    /// Reports a fault in these bytes.
    pub(crate) fn fault(&self, span: Range<usize>, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::at(self.name, self.text, span, message.into()));
    }

    /// Reports a fault in these bytes without showing their line, because a secret stands there.
    pub(crate) fn fault_in_secret(&self, span: Range<usize>, message: impl Into<String>) {
        let fault = Fault::at(self.name, self.text, span, message.into());
        self.faults.borrow_mut().push(fault.without_excerpt());
    }

    /// Reports that something is missing from the whole file.
    pub(crate) fn fault_in_file(&self, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::without_place(self.name, message));
    }

    /// All faults, in the order of their places.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(Fault::position);
        faults.dedup();
        faults
    }

    /// The bytes of the file as they stand there.
    pub(crate) fn raw(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or("")
    }

    /// The value at a path of keys.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Value<'t>> {
        let (first, rest) = path.split_first()?;
        rest.iter().fold(self.root.get(*first), |value, key| value?.get_ref().as_table()?.get(*key))
    }

    /// Where the value at a path stands.
    pub(crate) fn span(&self, path: &[&str]) -> Option<Range<usize>> {
        self.get(path).map(Spanned::span)
    }

    /// Where the last key of a path stands.
    pub(crate) fn key_span(&self, path: &[&str]) -> Option<Range<usize>> {
        let (last, parents) = path.split_last()?;
        let table = if parents.is_empty() { &self.root } else { self.get(parents)?.get_ref().as_table()? };
        table.get_key_value(*last).map(|(key, _)| key.span())
    }

    /// The text at a path, if there is one and its variables are known.
    pub(crate) fn word(&self, path: &[&str]) -> Option<Word<'_>> {
        self.read_word(self.get(path)?)
    }

    /// The texts of an array, if it holds nothing else and their variables are known.
    pub(crate) fn words<'s>(&self, array: &'s Value<'_>) -> Option<Vec<Word<'s>>> {
        array.get_ref().as_array()?.iter().map(|value| self.read_word(value)).collect()
    }

    /// The text that a value is.
    pub(crate) fn read_word<'s>(&self, value: &'s Value<'_>) -> Option<Word<'s>> {
        let text = value.get_ref().as_str().filter(|_| self.is_resolved(value))?;
        Some(Word { text, span: value.span() })
    }

    /// Whether a value holds no variable that is missing.
    pub(crate) fn is_resolved(&self, value: &Value<'_>) -> bool {
        !self.unresolved.contains(&value.span().start)
    }
}
