//! Faults of a config, each with its place and a remedy.

use std::fmt;
use std::ops::Range;

/// One fault: a sentence, and the place it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or the command line flag, that holds the fault.
    pub origin: String,
    /// Where in the file; `None` when something is missing from the whole of it.
    pub place: Option<FaultPlace>,
    /// What is wrong, what was expected, and often what to do.
    pub message: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlace {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line's text and how many of its characters are meant; `None` when a secret may stand there.
    excerpt: Option<(String, usize)>,
}

/// All faults of a config, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Fault {
    /// A fault of a whole file or of a flag.
    pub fn without_place(origin: &str, message: impl Into<String>) -> Self {
        Self { origin: origin.to_owned(), place: None, message: message.into() }
    }

    /// A fault at these bytes of `text`.
    pub(crate) fn at(origin: &str, text: &str, span: Range<usize>, message: String) -> Self {
        Self { origin: origin.to_owned(), place: Some(FaultPlace::find(text, span)), message }
    }

    /// The same fault, without the line it stands in.
    pub(crate) fn without_excerpt(mut self) -> Self {
        if let Some(place) = &mut self.place {
            place.excerpt = None;
        }
        self
    }

    /// What faults are sorted by: those of the whole file come first.
    pub(crate) fn position(&self) -> (usize, usize) {
        self.place.as_ref().map_or((0, 0), |place| (place.line, place.column))
    }
}

impl FaultPlace {
    fn find(text: &str, span: Range<usize>) -> Self {
        // A span never ends inside a character, because TOML's syntax is ASCII; if it did, the end is a fair answer.
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let meant = text.get(span).and_then(|meant| meant.lines().next()).unwrap_or("");
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            excerpt: Some((
                text[line_start..].lines().next().unwrap_or("").to_owned(),
                meant.chars().count().max(1),
            )),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => {
                write!(f, "{}:{}:{}: {}{place}", self.origin, place.line, place.column, self.message)
            }
            None => write!(f, "{}: {}", self.origin, self.message),
        }
    }
}

/// The line and a caret under what is meant, each line led by a newline.
impl fmt::Display for FaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((text, width)) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands under its text however wide the terminal draws them.
        let before = text.chars().take(self.column - 1);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let shown = format!("{number} | {text}");
        write!(f, "\n{gutter} |\n{}\n{gutter} | {indent}{}", shown.trim_end(), "^".repeat(*width))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_points_at_its_characters() {
        let text = "a = 1\n\tname = \"矢倉\" # tower\n";
        let start = text.find("\"矢").unwrap();
        let fault = Fault::at("x.toml", text, start..start + 8, "wrong".to_owned());
        let expected = "x.toml:2:9: wrong\n  |\n2 | \tname = \"矢倉\" # tower\n  | \t       ^^^^";
        assert_eq!(fault.to_string(), expected);
        assert_eq!(fault.without_excerpt().to_string(), "x.toml:2:9: wrong");
    }

    #[test]
    fn a_fault_at_the_end_of_a_file_has_a_caret_too() {
        let fault = Fault::at("x.toml", "a = \n", 5..5, "wrong".to_owned());
        assert_eq!(fault.to_string(), "x.toml:2:1: wrong\n  |\n2 |\n  | ^");
    }

    #[test]
    fn a_span_over_several_lines_is_marked_on_its_first() {
        let fault = Fault::at("x.toml", "a = [\n  1,\n]\n", 4..12, "wrong".to_owned());
        assert_eq!(fault.to_string(), "x.toml:1:5: wrong\n  |\n1 | a = [\n  |     ^");
    }
}
