//! Faults of TOML's syntax, as few as there are: one that makes others is told alone.

use std::ops::Range;

use toml::de::Error;

/// A fault: the bytes it is about, and a sentence.
type SyntaxFault = (Range<usize>, String);

/// What the parser says of a key or a table that is there twice.
const DUPLICATE: &str = "duplicate key";

/// The faults that stand behind the parser's errors, in the order of their places.
///
/// An array that is never closed takes everything after it for its elements, so what the parser says of these is left out. So
/// are all errors of a line but the first, and those of keys in a table that is itself there twice.
pub(crate) fn faults(text: &str, errors: &[Error]) -> Vec<SyntaxFault> {
    let place = |error: &Error| error.span().unwrap_or(text.len()..text.len());
    let mut faults: Vec<SyntaxFault> =
        errors.iter().map(|error| (place(error), error.message().to_owned())).collect();
    faults.sort_by_key(|(span, _)| span.start);
    if faults.iter().any(|(_, message)| is_of_unclosed_value(message))
        && let Some((at, message)) = unclosed(text)
    {
        faults.retain(|(span, _)| span.start < at);
        faults.push((at..at + 1, message));
    }
    faults.dedup_by_key(|(span, _)| line_of(text, span.start));
    let repeated: Vec<usize> = faults.iter().filter_map(|fault| repeated_header(text, fault)).collect();
    faults.retain(|(span, message)| {
        let line = line_of(text, span.start);
        message != DUPLICATE || !header_above(text, line).is_some_and(|header| repeated.contains(&header))
    });
    for (span, message) in &mut faults {
        if message == DUPLICATE
            && let Some(line) = said_before(text, span)
        {
            message.push_str(&format!("; line {} has it already", line + 1));
        }
    }
    faults
}

fn is_of_unclosed_value(message: &str) -> bool {
    message.starts_with("unclosed array,") || message.starts_with("unclosed inline table")
}

/// Where the innermost array or inline table begins that is not closed at the end of the text.
fn unclosed(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    let mut is_line_start = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = after_string(bytes, at);
                is_line_start = false;
                continue;
            }
            b'#' => at = line_end(bytes, at),
            b'[' if open.is_empty() && is_line_start => at = line_end(bytes, at), // The head of a table.
            b'[' | b'{' => open.push((at, byte)),
            b']' | b'}' => drop(open.pop()),
            _ => {}
        }
        let byte = bytes.get(at).copied().unwrap_or(b'\n');
        is_line_start = byte == b'\n' || (is_line_start && byte.is_ascii_whitespace());
        at += 1;
    }
    let (at, byte) = open.pop()?;
    let (what, end) = if byte == b'[' { ("array", ']') } else { ("inline table", '}') };
    Some((at, format!("the {what} that begins here has no `{end}`")))
}

/// The newline that ends this line, or the end of the text.
fn line_end(bytes: &[u8], from: usize) -> usize {
    let length = bytes[from..].iter().position(|byte| *byte == b'\n');
    length.map_or(bytes.len(), |length| from + length)
}

/// The first byte after the string that begins here. A string of one line ends with it.
fn after_string(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let is_long = bytes[from..].starts_with(&[quote; 3]);
    let mut at = from + if is_long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' && quote == b'"' {
            at += 2;
        } else if is_long && bytes[at..].starts_with(&[quote; 3]) {
            // One or two quotes before the last three belong to the text.
            return at + bytes[at..].iter().take_while(|byte| **byte == quote).count();
        } else if !is_long && byte == quote {
            return at + 1;
        } else if !is_long && byte == b'\n' {
            return at;
        } else {
            at += 1;
        }
    }
    at
}

/// Counted from 0.
fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count()
}

/// The head of a table that a line is, without its spaces and comment.
fn header(line: &str) -> Option<String> {
    let head = line.split('#').next().unwrap_or(line);
    let head: String = head.chars().filter(|c| !c.is_whitespace()).collect();
    head.starts_with('[').then_some(head)
}

/// The line that heads the table which this line is in.
fn header_above(text: &str, line: usize) -> Option<usize> {
    let heads = text.lines().take(line).enumerate().filter(|(_, text)| header(text).is_some());
    heads.last().map(|(number, _)| number)
}

/// The line, if it heads a table that is there already.
fn repeated_header(text: &str, (span, message): &SyntaxFault) -> Option<usize> {
    let line = line_of(text, span.start);
    (message == DUPLICATE && header(text.lines().nth(line)?).is_some()).then_some(line)
}

/// The line that has the same head, or the same key under the same head, before this one.
fn said_before(text: &str, span: &Range<usize>) -> Option<usize> {
    let line = line_of(text, span.start);
    let lines: Vec<&str> = text.lines().take(line + 1).collect();
    let (own, above) = lines.split_last()?;
    if let Some(head) = header(own) {
        return above.iter().position(|line| header(line).as_ref() == Some(&head));
    }
    let line_start = text.get(..span.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let key = text.get(line_start..span.end)?.trim_start();
    let first = header_above(text, line).map_or(0, |head| head + 1);
    let is_same = |line: &&str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    above[first..].iter().position(is_same).map(|index| first + index)
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// The lines and messages of a text's faults.
    fn found(text: &str) -> Vec<(usize, String)> {
        let (_, errors) = DeTable::parse_recoverable(text);
        let faults = faults(text, &errors);
        faults.into_iter().map(|(span, message)| (line_of(text, span.start) + 1, message)).collect()
    }

    #[test]
    fn what_is_not_closed_is_told_alone() {
        let array = "the array that begins here has no `]`".to_owned();
        let rest = "\n[b]\nc = 5\nd = 'x'\n\n[[e]]\nf = ['g']\n";
        for text in ["a = ['x', 'y'", "a = [ # ]\n'x',", "a = [['x'], ['y']", "a = [']', \"\\\"]\", ']'"] {
            assert_eq!(found(&format!("{text}{rest}")), [(1, array.clone())], "{text}");
        }
        let table = "the inline table that begins here has no `}`".to_owned();
        assert_eq!(found(&format!("a = {{ x = [1], y = 2{rest}")), [(1, table)]);
        assert_eq!(found(&format!("[z]\na = [\"\"\"]\"\"\"\"{rest}")), [(2, array)]);
    }

    #[test]
    fn faults_before_it_stay() {
        let faults = found("[a\nb = 1\n[c]\nd = 1.2.3\ne = [1,\nf = 2\n");
        let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 4, 5], "{faults:?}");
    }

    #[test]
    fn of_what_is_there_twice_both_lines_are_named() {
        let twice = |line: usize| format!("duplicate key; line {line} has it already");
        assert_eq!(
            found("[a]\nb = 1\n[c]\nb = 1\n  d.e = 2\nb = 3\nd.e = 4\n"),
            [(6, twice(4)), (7, twice(5))]
        );
        assert_eq!(found("[a] # first\nb = 1\n[c]\nb = 2\n[ a ]\nb = 3\n"), [(5, twice(1))]);
    }
}
