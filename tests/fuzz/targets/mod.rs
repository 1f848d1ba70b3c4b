//! What is fuzzed: a file for each reader, which is all that a new one needs beside its row in [`TARGETS`].

mod batch;
mod document;
mod frame;
mod journal;
mod regex;
mod request;
mod response;
mod seeds;
mod toml;

use crate::random::Random;

/// A reader, with what is needed to fuzz it.
pub(crate) trait Target {
    /// Inputs to begin with, the same each time.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// Bytes that mean something to it.
    fn words(&self) -> Vec<Vec<u8>>;

    /// What an input may be and take.
    fn bounds(&self) -> Bounds;

    /// Makes a changed input fit where otherwise the first check would refuse it.
    fn repair(&self, _input: &mut [u8], _random: &mut Random) {}

    /// Reads an input.
    ///
    /// # Errors
    /// The reader broke a promise. That it refuses an input is no error.
    fn run(&mut self, input: &[u8]) -> Result<(), String>;
}

/// Bounds of an input and on the heap that it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) input_bytes_max: usize,
    /// Whatever the input.
    pub(crate) constant: usize,
    /// More for each byte of it.
    pub(crate) per_byte: usize,
}

impl Bounds {
    /// The most that an input of this length may take.
    pub(crate) fn bytes_max(&self, input_bytes: usize) -> usize {
        self.constant + self.per_byte * input_bytes
    }
}

/// A kind of target.
pub(crate) struct Kind {
    /// Its name, and that of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Its share of the time, and of the inputs.
    pub(crate) weight: u64,
    /// Makes it.
    pub(crate) make: fn() -> Box<dyn Target>,
}

/// All targets.
pub(crate) static TARGETS: [Kind; 8] = [
    Kind { name: "frame", weight: 3, make: || Box::new(frame::Frame::new()) },
    Kind { name: "request", weight: 5, make: || Box::new(request::Request::new()) },
    Kind { name: "response", weight: 3, make: || Box::new(response::Response) },
    Kind { name: "batch", weight: 4, make: || Box::new(batch::Batches) },
    Kind { name: "toml", weight: 3, make: || Box::new(toml::Toml) },
    Kind { name: "document", weight: 2, make: || Box::new(document::Documents) },
    Kind { name: "journal", weight: 2, make: || Box::new(journal::Journal) },
    Kind { name: "regex", weight: 2, make: || Box::new(regex::Regex) },
];

/// The target of this name.
pub(crate) fn find(name: &str) -> Option<&'static Kind> {
    TARGETS.iter().find(|kind| kind.name == name)
}

/// Texts as words.
fn words(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
