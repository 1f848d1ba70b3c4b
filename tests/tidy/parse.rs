//! What a module declares, imports and names, as far as it can be told without a compiler.

use std::collections::BTreeSet;

use super::lexer::{Kind, Token};
use super::test_code::{depth_change, group_length};

/// What one module says; what its inline modules say stands in `inline`.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) children: Vec<Child>,
    pub(crate) inline: Vec<(String, Module)>,
    pub(crate) imports: Vec<Import>,
    /// Paths in the code, those of a single name too.
    pub(crate) paths: Vec<Named>,
    /// Names of the functions, types, constants and so on that the module defines.
    pub(crate) items: BTreeSet<String>,
}

/// `mod name;`
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: String,
    /// From a `#[path = "..."]`.
    pub(crate) path: Option<String>,
}

/// One name of a `use`.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// What it is called here; none for `*`.
    pub(crate) name: Option<String>,
    pub(crate) is_public: bool,
    pub(crate) line: usize,
}

#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

impl Module {
    /// All paths of the module and its inline modules, those of imports too.
    pub(crate) fn all_paths(&self) -> Vec<(&[String], usize)> {
        let mut all: Vec<_> = self.paths.iter().map(|named| (&named.path[..], named.line)).collect();
        all.extend(self.imports.iter().map(|import| (&import.path[..], import.line)));
        all.extend(self.inline.iter().flat_map(|(_, module)| module.all_paths()));
        all
    }
}

/// Words after which a new name stands.
const DEFINES: &[&str] =
    &["fn", "struct", "enum", "union", "trait", "type", "const", "static", "mod", "macro_rules"];

/// Reads the code of a file or of an inline module.
pub(crate) fn parse(tokens: &[Token]) -> Module {
    let mut module = Module::default();
    let (mut at, mut depth) = (0, 0);
    while at < tokens.len() {
        let token = &tokens[at];
        depth += depth_change(token);
        let is_use = token.is("use") && tokens.get(at + 1).is_some_and(|next| !next.is("<"));
        let after = |ahead: usize, sign: &str| tokens.get(at + ahead).is_some_and(|token| token.is(sign));
        at += if is_use {
            imports(tokens, at, &mut module.imports)
        } else if token.is("mod") && after(2, "{") {
            let body = group_length(&tokens[at + 2..]);
            let inside = parse(&tokens[at + 3..(at + 1 + body).max(at + 3)]);
            module.inline.push((tokens[at + 1].text.to_owned(), inside));
            2 + body
        } else if token.is("mod") && after(2, ";") {
            let name = tokens[at + 1].text.to_owned();
            module.children.push(Child { name, path: path_attribute(&tokens[..at]) });
            3
        } else {
            if depth == 0 {
                module.items.extend(defined(&tokens[at..]).map(str::to_owned));
            }
            path(tokens, at, &mut module.paths)
        };
    }
    module
}

/// What stands before the item that comes next: its attributes and its visibility.
fn before_item<'a, 't>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t Token<'a>> {
    tokens.iter().rev().take_while(|token| ![";", "{", "}"].iter().any(|sign| token.is(sign)))
}

fn path_attribute(before: &[Token]) -> Option<String> {
    let mut next: [Option<&Token>; 2] = [None, None];
    for token in before_item(before) {
        if let (true, [Some(equals), Some(value)]) = (token.is("path"), next) {
            let is_path = equals.is("=") && value.kind == Kind::Quoted;
            return is_path.then(|| value.text.trim_matches('"').to_owned());
        }
        next = [Some(token), next[0]];
    }
    None
}

/// The name that an item defines, if one begins here.
fn defined<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let keyword = tokens.first().filter(|token| DEFINES.contains(&token.text))?;
    let mut names = tokens[1..].iter().filter(|token| !token.is("!") && !token.is("mut"));
    let name = names.next().filter(|name| name.is_word() && !DEFINES.contains(&name.text))?;
    (!keyword.is("mod")).then_some(name.text)
}

/// Reads the path that begins at `at`, if one does; gives the tokens it takes.
fn path(tokens: &[Token], at: usize, found: &mut Vec<Named>) -> usize {
    if !tokens[at].is_word() {
        return 1;
    }
    let mut path = vec![tokens[at].text.to_owned()];
    let mut end = at + 1;
    while let Some([colons, name]) = tokens.get(end..end + 2)
        && colons.is("::")
        && name.is_word()
    {
        path.push(name.text.to_owned());
        end += 2;
    }
    let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text);
    let is_member = before(1) == "." && before(2) != "."; // Two dots are a range.
    let is_field = path.len() == 1 && tokens.get(end).is_some_and(|next| next.is(":"));
    let is_new = DEFINES.contains(&before(1));
    if !is_member && !is_field && !is_new && before(1) != "::" {
        found.push(Named { path, line: tokens[at].line });
    }
    end - at
}

/// Reads the `use` at `at`; gives the tokens it takes.
fn imports(tokens: &[Token], at: usize, found: &mut Vec<Import>) -> usize {
    let is_public = before_item(&tokens[..at]).any(|token| token.is("pub"));
    let mut reader = UseReader { tokens, at: at + 1, is_public, found };
    reader.tree(&[]);
    reader.at - at
}

struct UseReader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    is_public: bool,
    found: &'t mut Vec<Import>,
}

impl<'a> UseReader<'_, 'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn takes(&mut self, text: &str) -> bool {
        let is_next = self.tokens.get(self.at).is_some_and(|token| token.is(text));
        self.at += usize::from(is_next);
        is_next
    }

    /// One path of a `use`, up to what comes after it, with all that its braces hold.
    fn tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        if self.takes("::") {
            path.push(String::new()); // An absolute path: a crate's name follows.
        }
        while let Some(token) = self.next() {
            match token.text {
                "{" => return self.group(&path),
                "*" => return self.add(path, None, token.line),
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
            if !self.takes("::") {
                let called = if self.takes("as") { self.next().map(|token| token.text) } else { None };
                let called = called.map(str::to_owned).or_else(|| path.last().cloned());
                return self.add(path, called, token.line);
            }
        }
    }

    fn group(&mut self, path: &[String]) {
        while self.at < self.tokens.len() && !self.takes("}") {
            self.tree(path);
            self.takes(",");
        }
    }

    fn add(&mut self, path: Vec<String>, name: Option<String>, line: usize) {
        self.found.push(Import { path, name, is_public: self.is_public, line });
    }
}
