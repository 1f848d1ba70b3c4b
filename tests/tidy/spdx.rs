//! Licence expressions of SPDX, such as `(MIT OR Apache-2.0) AND Unicode-3.0`.

/// Whether an expression can be met with allowed licences alone. `OR` may also be written `/`, as crates once did.
pub(crate) fn is_met(expression: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { left: spaced.split_whitespace().collect(), allowed };
    words.left.reverse();
    let is_met = words.any()?;
    if words.left.is_empty() { Ok(is_met) } else { Err(format!("{expression:?} goes on after its end")) }
}

struct Words<'a> {
    /// The next one is the last.
    left: Vec<&'a str>,
    allowed: &'a [&'a str],
}

impl<'a> Words<'a> {
    fn takes(&mut self, word: &str) -> bool {
        self.left.pop_if(|next| *next == word).is_some()
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut is_met = self.all()?;
        while self.takes("OR") {
            is_met |= self.all()?;
        }
        Ok(is_met)
    }

    /// `AND` binds closer than `OR`.
    fn all(&mut self) -> Result<bool, String> {
        let mut is_met = self.one()?;
        while self.takes("AND") {
            is_met &= self.one()?;
        }
        Ok(is_met)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.takes("(") {
            let is_met = self.any()?;
            return if self.takes(")") { Ok(is_met) } else { Err("a bracket is not closed".to_owned()) };
        }
        let name = self.name()?;
        let name = if self.takes("WITH") { format!("{name} WITH {}", self.name()?) } else { name.to_owned() };
        Ok(self.allowed.contains(&&name[..]))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let name = self.left.pop().filter(|name| !["OR", "AND", "WITH", "(", ")"].contains(name));
        name.ok_or_else(|| "a licence is missing".to_owned())
    }
}

#[test]
fn expressions_are_met_by_what_is_allowed() {
    let allowed = ["MIT", "Zlib", "GPL-2.0 WITH Classpath-exception-2.0"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-2.0", false),
        ("MIT OR GPL-2.0", true),
        ("GPL-2.0/MIT", true),
        ("MIT AND GPL-2.0", false),
        ("MIT AND Zlib", true),
        ("MIT OR Zlib AND GPL-2.0", true),
        ("(MIT OR Zlib) AND GPL-2.0", false),
        ("(GPL-2.0 OR (MIT)) AND Zlib", true),
        ("GPL-2.0 WITH Classpath-exception-2.0", true),
        ("MIT WITH Classpath-exception-2.0", false),
        ("MIT+", false),
    ] {
        assert_eq!(is_met(expression, &allowed), Ok(expected), "{expression}");
    }
    for broken in ["", "MIT OR", "(MIT", "MIT)", "MIT Zlib", "OR MIT", "MIT WITH", "MIT AND ()"] {
        assert!(is_met(broken, &allowed).is_err(), "{broken:?}");
    }
}
