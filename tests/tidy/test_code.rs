//! Leaves out what is compiled for tests only.

use super::lexer::Token;

/// `tokens` without items under `#[cfg(test)]` and without modules whose names say that they are tests.
pub(crate) fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let is_all_tests =
        (0..tokens.len()).any(|at| begins(&tokens[at..], &["#", "!", "[", "cfg", "(", "test", ")"]));
    let (mut kept, mut at) = (Vec::new(), if is_all_tests { tokens.len() } else { 0 });
    while at < tokens.len() {
        let rest = &tokens[at..];
        if is_test_attribute(rest) || is_test_module(rest) {
            at += item_length(rest);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// Whether a module holds tests, or what only tests use.
fn is_test_name(name: &str) -> bool {
    name == "tests" || name == "testing" || name.ends_with("_tests")
}

fn begins(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.is(text))
}

/// `#[cfg(test)]` or `#[cfg(all(test, ...))]`; with `any` or `not` in it, the item may be there without tests.
fn is_test_attribute(tokens: &[Token]) -> bool {
    if !begins(tokens, &["#", "[", "cfg", "(", "all", "("]) {
        return begins(tokens, &["#", "[", "cfg", "(", "test", ")", "]"]);
    }
    let attribute = &tokens[..=group_length(&tokens[1..])];
    let names = |word: &str| attribute.iter().any(|token| token.is(word));
    names("test") && !names("not") && !names("any")
}

fn is_test_module(tokens: &[Token]) -> bool {
    begins(tokens, &["mod"]) && tokens.get(1).is_some_and(|name| is_test_name(name.text))
}

/// How many tokens a bracket at the start, what is in it, and the bracket that closes it are.
pub(crate) fn group_length(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += depth_change(token);
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

pub(crate) fn depth_change(token: &Token) -> i32 {
    let is_one_of = |signs: [&str; 3]| signs.iter().any(|sign| token.is(sign));
    i32::from(is_one_of(["(", "[", "{"])) - i32::from(is_one_of([")", "]", "}"]))
}

/// How many tokens the item at the start is, its attributes included.
fn item_length(tokens: &[Token]) -> usize {
    let mut at = 0;
    while begins(&tokens[at..], &["#", "["]) {
        at += 1 + group_length(&tokens[at + 1..]);
    }
    let ends = ends_of_item(&tokens[at..]);
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        depth += depth_change(token);
        if depth < 0 {
            return at; // The bracket around the item.
        }
        at += 1;
        if depth == 0 && ends.iter().any(|end| token.is(end)) {
            return at;
        }
    }
    at
}

/// The signs that end an item: a `use` goes on after a brace, and a function after a comma.
fn ends_of_item(tokens: &[Token]) -> &'static [&'static str] {
    let after_pub =
        |at: usize| at + if begins(&tokens[at..], &["("]) { group_length(&tokens[at..]) } else { 0 };
    let at = if begins(tokens, &["pub"]) { after_pub(1) } else { 0 };
    let is_function = tokens[at..].iter().skip(1).take(3).any(|token| token.is("fn"));
    match tokens.get(at).map_or("", |token| token.text) {
        "use" | "const" | "static" | "type" | "let" if !is_function => &[";"],
        "fn" | "mod" | "struct" | "enum" | "union" | "trait" | "impl" | "unsafe" | "async" | "const"
        | "extern" => &[";", "}"],
        _ => &[";", "}", ","],
    }
}
