//! Facts that a layer relies on: a layer above it must provide them.

use kernel::settings::one_of;

/// A layer or a kind of layer, as far as facts go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What the layers below can rely on.
    pub(super) provides: &'a [&'a str],
    /// What a layer above must provide.
    pub(super) requires: &'a [&'a str],
}

/// What no layer above provides: the index of the layer that requires it, and a sentence. `stack` is in the order of a
/// stack; `kinds` are those there are.
pub(super) fn missing(stack: &[Facts<'_>], kinds: &[Facts<'_>]) -> Vec<(usize, String)> {
    let mut missing = Vec::new();
    for (index, layer) in stack.iter().enumerate() {
        for fact in layer.requires.iter().filter(|fact| providers(&stack[..index], fact).is_empty()) {
            let providers = providers(kinds, fact);
            let remedy = if providers.is_empty() {
                "no kind of layer does yet".to_owned()
            } else {
                format!("put {} above it", one_of(&providers))
            };
            let needs = format!("\"{}\" needs a layer above it that provides \"{fact}\"", layer.name);
            missing.push((index, format!("{needs}; {remedy}")));
        }
    }
    missing
}

/// The names of those that provide a fact.
fn providers<'a>(layers: &[Facts<'a>], fact: &str) -> Vec<&'a str> {
    let provide = layers.iter().filter(|layer| layer.provides.contains(&fact));
    provide.map(|layer| layer.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SASL: Facts<'_> = Facts { name: "sasl", provides: &["principal"], requires: &[] };
    const MTLS: Facts<'_> = Facts { name: "mtls", provides: &["principal", "tls"], requires: &[] };
    const AUTHZ: Facts<'_> = Facts { name: "authz", provides: &[], requires: &["principal"] };
    const QUOTA: Facts<'_> = Facts { name: "quota", provides: &[], requires: &["principal", "tenant"] };

    fn said(stack: &[Facts<'_>]) -> Vec<(usize, String)> {
        missing(stack, &[SASL, MTLS, AUTHZ, QUOTA])
    }

    #[test]
    fn a_layer_above_provides_what_one_below_requires() {
        assert!(said(&[SASL, AUTHZ]).is_empty());
        assert!(said(&[MTLS, AUTHZ]).is_empty());
    }

    #[test]
    fn a_layer_below_does_not() {
        let expected = "\"authz\" needs a layer above it that provides \"principal\"; \
                        put one of \"sasl\", \"mtls\" above it";
        assert_eq!(said(&[AUTHZ, SASL]), [(0, expected.to_owned())]);
    }

    #[test]
    fn what_nobody_provides_is_said_to_be_so() {
        let expected = "\"quota\" needs a layer above it that provides \"tenant\"; no kind of layer does yet";
        assert_eq!(said(&[SASL, QUOTA]), [(1, expected.to_owned())]);
    }
}
