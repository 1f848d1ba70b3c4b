//! The finder of circles on small crates that are made for it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::circles::{Circle, circles};

/// A crate in a folder of its own, removed when dropped.
struct Made(PathBuf);

impl Made {
    fn of(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("yagura-tidy-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = Self(std::env::temp_dir().join(name));
        for (file, text) in files {
            let path = made.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        made
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn found(files: &[(&str, &str)]) -> Vec<Circle> {
    circles(&Made::of(files).0)
}

#[track_caller]
fn has(files: &[(&str, &str)], ways: &[&str]) {
    let found: Vec<_> = found(files).into_iter().map(|circle| circle.way).collect();
    assert_eq!(found, ways);
}

const TWO: (&str, &str) = ("lib.rs", "mod a;\nmod b;\n");

#[test]
fn a_circle_is_found_with_its_lines() {
    let a = "use crate::b::B;\npub struct A(B);\n";
    let b = "pub struct B;\n\nfn f() -> Option<super::a::A> { None }\n";
    let circles = found(&[TWO, ("a.rs", a), ("b.rs", b)]);
    assert_eq!(circles.len(), 1);
    assert_eq!(circles[0].to_string(), "a.rs -> b.rs -> a.rs\n    a.rs:1 needs b.rs\n    b.rs:3 needs a.rs");
}

#[test]
fn one_way_is_no_circle() {
    has(&[TWO, ("a.rs", "use crate::b::B;\n"), ("b.rs", "pub struct B;\n")], &[]);
}

#[test]
fn a_longer_circle_is_found_and_so_is_each_within_it() {
    let lib = ("lib.rs", "mod a; mod b; mod c;");
    let a = ("a.rs", "use crate::b::B; pub struct A;");
    let c = ("c.rs", "use crate::a::A; pub struct C;");
    has(&[lib, a, ("b.rs", "use crate::c::C; pub struct B;"), c], &["a.rs -> b.rs -> c.rs -> a.rs"]);
    let both = ("b.rs", "use crate::c::C; use crate::a::A; pub struct B;");
    has(&[lib, a, both, c], &["a.rs -> b.rs -> a.rs", "a.rs -> b.rs -> c.rs -> a.rs"]);
}

#[test]
fn a_parent_that_uses_its_child_and_is_used_by_it() {
    let child = ("x/child.rs", "use super::Data;\npub fn decide(_: Data) {}\n");
    let parent = "mod child;\npub struct Data;\nfn f() { child::decide(Data) }\n";
    has(&[("lib.rs", "mod x;"), ("x/mod.rs", parent), child], &["x/child.rs -> x/mod.rs -> x/child.rs"]);
    let declares = "mod child;\npub struct Data;\n";
    has(&[("lib.rs", "mod x;"), ("x/mod.rs", declares), child], &[]);
}

#[test]
fn a_pure_reexport_is_no_step() {
    let child = ("x/child.rs", "use super::Data;\npub fn decide(_: Data) {}\n");
    let exports = "mod child;\npub use child::decide;\npub struct Data;\n";
    has(&[("lib.rs", "mod x;"), ("x/mod.rs", exports), child], &[]);
    let same_words = format!("{exports}impl Data {{ fn decide(&self) {{ self.decide() }} }}\n");
    has(&[("lib.rs", "mod x;"), ("x/mod.rs", &same_words), child], &[]);
    let calls = "mod child;\npub use child::decide;\npub struct Data;\nfn f() { decide(Data) }\n";
    has(&[("lib.rs", "mod x;"), ("x/mod.rs", calls), child], &["x/child.rs -> x/mod.rs -> x/child.rs"]);
}

/// Both files use the other's name as the crate's root re-exports it.
#[track_caller]
fn through_root(lib: &str) {
    let files = [
        ("lib.rs", lib),
        ("x/mod.rs", "mod y; pub use y::*;"),
        ("x/y/mod.rs", "mod deep; pub use deep::{First as Second};"),
        ("x/y/deep.rs", "use crate::B; pub struct First;"),
        ("b.rs", "use crate::A; pub struct B;"),
    ];
    has(&files, &["b.rs -> x/y/deep.rs -> b.rs"]);
}

#[test]
fn a_name_counts_for_the_file_that_defines_it() {
    through_root("mod b; mod x; pub use b::B; pub use x::Second as A;");
    through_root("mod b; mod x; pub use {b::*, x::{y::{Other as Z}, Second as A}};");
}

#[test]
fn braces_over_lines_renames_and_globs_are_read() {
    let b = ("b.rs", "pub mod c;\nuse crate::a::A;\npub struct B;\n");
    let c = ("b/c.rs", "pub fn f() {}\nuse crate::a::*;\n");
    let lib = TWO;
    let a = "use crate::{\n    b::{\n        self as other,\n        c::{f as g, f},\n    },\n};\npub struct A;\n";
    let within = "a.rs -> b/c.rs -> a.rs";
    has(&[lib, ("a.rs", a), b, c], &[within]);
    let a = format!("{a}fn h() -> other::B {{}}\n");
    has(&[lib, ("a.rs", &a), b, c], &["a.rs -> b.rs -> a.rs", within]);
}

#[test]
fn tests_comments_and_texts_do_not_count() {
    let b = ("b.rs", "use crate::a::A;\npub struct B;\n");
    for unseen in [
        "#[cfg(test)]\nmod checks { use crate::b::B; }\n",
        "#[cfg(test)]\nuse crate::b::{B};\n",
        "#[cfg(test)]\n#[allow(unused)]\npub(crate) fn f() -> crate::b::B { crate::b::B }\n",
        "#[cfg(all(test, unix))]\nconst B: crate::b::B = crate::b::B;\n",
        "#[cfg(test)]\nstatic B: u8 = if true { 1 } else { crate::b::f() };\n",
        "mod tests { fn f() { crate::b::f() } }\n",
        "mod tests;\n",
        "mod some_tests;\n",
        "#[cfg(test)]\nmod missing;\n",
        "// crate::b::f()\n/// [`crate::b::B`]\n/* use crate::b::B; /* nested */ crate::b::f() */\n",
        "const T: &str = \"crate::b::f()\";\nconst R: &str = r#\"\"use crate::b::B;\"#;\n",
        "fn f<'a>(_: &'a str) -> char { '\"' }\nconst T: &[u8] = b\"\\\"crate::b::f()\";\n",
        "const Q: char = '\"';\n",
        "pub(in crate::b) struct C;\n",
        "use crate::b;\nfn f() { ::b::f() }\n",
        "use other::b::B;\nfn f(s: S) { s.b::<u8>(); ::b::f() }\n",
    ] {
        let a = format!("pub struct A;\n{unseen}");
        has(&[TWO, ("a.rs", &a), b, ("a/tests.rs", "use crate::b::B;")], &[]);
        let seen = format!("{a}fn last() {{ crate::b::last() }}\n");
        has(&[TWO, ("a.rs", &seen), b], &["a.rs -> b.rs -> a.rs"]);
    }
}

#[test]
fn paths_in_the_code_are_read() {
    let b = ("b.rs", "use crate::a::A;\npub struct B;\n");
    for code in [
        "fn f() { crate::b::f() }",
        "fn f() { let all = 0..super::b::COUNT; }",
        "fn f() -> Vec<crate::b::B> { Vec::<u8>::new() }",
        "mod inside { fn f() { super::super::b::f() } }",
        "use super::b; fn f() { b::f() }",
        "use crate as root; fn f() { root::b::f() }",
        "use crate::b::B as _;",
        "impl crate::b::Trait for A {}",
        "fn r#type() { crate::r#b::f() }",
        "fn f() { println!(\"{}\", crate::b::f()) }",
    ] {
        let a = format!("pub struct A;\n{code}\n");
        has(&[TWO, ("a.rs", &a), b], &["a.rs -> b.rs -> a.rs"]);
    }
}

#[test]
fn a_file_elsewhere_is_found_by_its_path_attribute() {
    let lib = "mod a;\n#[path = \"far/away.rs\"]\nmod b;\n";
    let files = [
        ("lib.rs", lib),
        ("a.rs", "use crate::b::B;"),
        ("far/away.rs", "fn f() { crate::a::f() } pub struct B;"),
    ];
    has(&files, &["a.rs -> far/away.rs -> a.rs"]);
}

#[test]
fn an_inline_module_has_a_folder_of_its_own() {
    let lib = "mod a; mod b { pub mod c; }";
    has(
        &[
            ("lib.rs", lib),
            ("a.rs", "use crate::b::c::C;"),
            ("b/c.rs", "fn f() { crate::a::f() } pub struct C;"),
        ],
        &["a.rs -> b/c.rs -> a.rs"],
    );
}

#[test]
fn imports_of_each_other_end() {
    let lib = "mod a; mod b; pub use a::*; pub use b::*; pub use a::X; pub use X as Y; pub use Y as X;";
    has(
        &[
            ("lib.rs", lib),
            ("a.rs", "pub use crate::*;"),
            ("b.rs", "pub use crate::a::*; fn f() { Nothing::f() }"),
        ],
        &[],
    );
}
