//! Rust source as words: comments are left out, and what stands in quotes is told apart.

/// A word, a sign or a quoted text of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    /// As it stands in the file; a raw name (`r#type`) without its mark.
    pub(crate) text: &'a str,
    /// The first line is 1.
    pub(crate) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// `::`, or any other single character.
    Sign,
    /// A string or character literal, quotes included.
    Quoted,
}

impl Token<'_> {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Quoted && self.text == text
    }

    pub(crate) fn is_word(&self) -> bool {
        self.kind == Kind::Word
    }
}

/// The code of a source file.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), source, 1);
    while !rest.is_empty() {
        let (length, kind) = first(rest);
        let (text, after) = rest.split_at(length);
        if let Some(kind) = kind {
            found.push(Token { kind, text: text.strip_prefix("r#").unwrap_or(text), line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// The length of what `rest` begins with, in bytes; without a kind if it is no code.
fn first(rest: &str) -> (usize, Option<Kind>) {
    let blank = rest.len() - rest.trim_start().len();
    if blank > 0 {
        (blank, None)
    } else if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), None)
    } else if rest.starts_with("/*") {
        (block_comment(rest), None)
    } else if let Some(length) = string(rest).or_else(|| character(rest)) {
        (length, Some(Kind::Quoted))
    } else if let Some(name) = rest.strip_prefix('\'') {
        (1 + word(name), None) // A lifetime.
    } else if rest.starts_with("::") {
        (2, Some(Kind::Sign))
    } else {
        let marked = rest.strip_prefix("r#").map_or(0, |name| if word(name) > 0 { 2 } else { 0 });
        match marked + word(&rest[marked..]) {
            0 => (rest.chars().next().map_or(0, char::len_utf8), Some(Kind::Sign)),
            length => (length, Some(Kind::Word)),
        }
    }
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let left = &rest[at..];
        if left.is_empty() {
            return at;
        } else if left.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += left.chars().next().map_or(1, char::len_utf8);
        }
    }
}

fn string(rest: &str) -> Option<usize> {
    let prefix =
        ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| rest.starts_with(prefix)).unwrap_or("");
    let after = &rest[prefix.len()..];
    let marks = if prefix.ends_with('r') { after.len() - after.trim_start_matches('#').len() } else { 0 };
    let body = after[marks..].strip_prefix('"')?;
    let begin = rest.len() - body.len();
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(marks));
        return Some(body.find(&end).map_or(rest.len(), |at| begin + at + end.len()));
    }
    Some(escaped_until(body, '"').map_or(rest.len(), |length| begin + length))
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('\'')?;
    let begin = rest.len() - body.len();
    let one = body.chars().next()?;
    let is_literal = one == '\\' || body[one.len_utf8()..].starts_with('\'');
    is_literal.then(|| escaped_until(body, '\'').map(|length| begin + length)).flatten()
}

/// The length of `body` with the quote that ends it.
fn escaped_until(body: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in body.char_indices() {
        if c == quote && !is_escaped {
            return Some(at + 1);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    None
}
