//! The order of a stack: layers of the byte stream, `framing` once, layers of calls, and a service last.

use std::collections::BTreeSet;

use kernel::layer::{LayerKind, Plane};
use kernel::settings::one_of;

use super::facts::{Facts, missing};
use super::reach::Reach;
use crate::decode::Draft;
use crate::nearest::instead;
use crate::registry::{layer_kind, layer_kinds, layer_names, layer_names_on, service_names};
use crate::settings::ROUTE;
use crate::sheet::{Sheet, Value, Word};

/// What a name in a stack is.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// A layer; of no kind if its table is at fault.
    Layer(Option<&'static LayerKind>),
    Route,
    Service,
    Unknown,
}

/// One stack.
struct Stack<'s> {
    sheet: &'s Sheet<'s>,
    /// How faults call it.
    path: String,
    array: &'s Value<'s>,
    steps: Vec<(Word<'s>, Step)>,
}

/// Checks all stacks, and gathers what they lead to.
pub(super) fn check(sheet: &Sheet<'_>, draft: &Draft) -> Reach {
    let mut reach =
        Reach { steps: BTreeSet::new(), services: BTreeSet::new(), routed: Vec::new(), is_certain: true };
    if draft.listeners.is_empty() {
        reach.is_certain = false;
        // A value that is not a table at all has been told already.
        if sheet.get(&["listeners"]).is_none_or(|value| value.get_ref().is_table()) {
            let steps: Vec<String> =
                layer_names().into_iter().chain([ROUTE]).map(|name| format!("\"{name}\"")).collect();
            sheet.fault_in_file(format!(
                "there is no listener; add [listeners.main] with, for instance, bind = \"127.0.0.1:9092\" and \
                 stack = [{}]",
                steps.join(", ")
            ));
        }
    }
    for name in draft.listeners.keys() {
        let array = sheet.get(&["listeners", name, "stack"]);
        let Some((array, words)) = array.and_then(|array| Some((array, sheet.words(array)?))) else {
            reach.is_certain = false;
            continue;
        };
        let kinds: Vec<Step> = words.iter().map(|word| step(draft, word.text)).collect();
        let steps = words.into_iter().zip(kinds).collect();
        let stack = Stack { sheet, path: format!("listeners.{name}.stack"), array, steps };
        stack.check(draft);
        stack.gather(name, &mut reach);
    }
    reach
}

fn step(draft: &Draft, name: &str) -> Step {
    match draft.layers.get(name) {
        _ if name == ROUTE => Step::Route,
        Some(layer) => Step::Layer(layer.kind),
        None if draft.services.contains_key(name) => Step::Service,
        None => layer_kind(name).map_or(Step::Unknown, |kind| Step::Layer(Some(kind))),
    }
}

impl Stack<'_> {
    fn check(&self, draft: &Draft) {
        if self.steps.is_empty() {
            let message = format!("{}: expected layers and, last, \"route\" or a service", self.path);
            return self.sheet.fault(self.array.span(), message);
        }
        self.unknown_names(draft);
        self.repeated_layers();
        self.framing();
        self.planes();
        self.facts();
        self.end(draft);
    }

    fn fault(&self, word: &Word<'_>, message: String) {
        self.sheet.fault(word.span.clone(), format!("{}: {message}", self.path));
    }

    /// Whether every name is known, and every layer's kind.
    fn is_certain(&self) -> bool {
        self.steps.iter().all(|(_, step)| !matches!(step, Step::Unknown | Step::Layer(None)))
    }

    fn gather(&self, listener: &str, reach: &mut Reach) {
        reach.is_certain &= self.is_certain() && self.steps.iter().any(|(_, step)| is_end(*step));
        reach.steps.extend(self.steps.iter().map(|(word, _)| word.text.to_owned()));
        let services = self.steps.iter().filter(|(_, step)| *step == Step::Service);
        reach.services.extend(services.map(|(word, _)| word.text.to_owned()));
        if let Some((word, _)) = self.steps.iter().find(|(_, step)| *step == Step::Route) {
            reach.routed.push((listener.to_owned(), word.span.clone()));
        }
    }

    fn unknown_names(&self, draft: &Draft) {
        let mut names: Vec<&str> = layer_names().into_iter().chain([ROUTE]).collect();
        names.extend(draft.layers.keys().chain(draft.services.keys()).map(String::as_str));
        names.sort_unstable();
        names.dedup();
        for (word, _) in self.steps.iter().filter(|(_, step)| *step == Step::Unknown) {
            let hint = instead(word.text, &names);
            self.fault(word, format!("there is no layer or service \"{}\"{hint}", word.text));
        }
    }

    fn repeated_layers(&self) {
        for (index, (word, step)) in self.steps.iter().enumerate() {
            let is_repeated = self.steps[..index].iter().any(|(earlier, _)| earlier.text == word.text);
            if is_repeated && matches!(step, Step::Layer(_)) {
                self.fault(word, format!("the layer \"{}\" stands here twice", word.text));
            }
        }
    }

    fn framing(&self) {
        let mut framings = self.steps.iter().filter(|(_, step)| is_on(*step, Plane::Framing));
        let Some((first, _)) = framings.next() else {
            if self.is_certain() {
                let message = format!(
                    "{}: no layer of kind {}, so no bytes would become calls; put one below the layers of the byte \
                     stream ({}) and above all others",
                    self.path,
                    one_of(&layer_names_on(Plane::Framing)),
                    layer_names_on(Plane::Bytes).join(", ")
                );
                self.sheet.fault(self.array.span(), message);
            }
            return;
        };
        // The same name again is a layer that stands twice, which is said already.
        for (word, _) in framings.filter(|(word, _)| word.text != first.text) {
            self.fault(
                word,
                format!("\"{}\" frames calls a second time, after \"{}\"", word.text, first.text),
            );
        }
    }

    fn planes(&self) {
        let framing = self.steps.iter().position(|(_, step)| is_on(*step, Plane::Framing));
        let Some(framing) = framing else { return };
        for (index, (word, step)) in self.steps.iter().enumerate() {
            if index > framing && is_on(*step, Plane::Bytes) {
                self.fault(
                    word,
                    format!("\"{}\" works on the byte stream and stands above framing", word.text),
                );
            }
            if index < framing && is_on(*step, Plane::Calls) {
                self.fault(word, format!("\"{}\" works on calls and stands below framing", word.text));
            }
        }
    }

    /// A layer that relies on a fact stands below one that provides it.
    fn facts(&self) {
        // A layer that is not known may be the one that provides it.
        if !self.is_certain() {
            return;
        }
        let layers: Vec<(&Word<'_>, &'static LayerKind)> = self
            .steps
            .iter()
            .filter_map(|(word, step)| match step {
                Step::Layer(Some(kind)) => Some((word, *kind)),
                _ => None,
            })
            .collect();
        let stack: Vec<Facts<'_>> = layers.iter().map(|(word, kind)| facts(word.text, kind)).collect();
        let kinds: Vec<Facts<'_>> = layer_kinds().iter().map(|kind| facts(kind.name, kind)).collect();
        for (index, message) in missing(&stack, &kinds) {
            self.fault(layers[index].0, message);
        }
    }

    fn end(&self, draft: &Draft) {
        let Some(end) = self.steps.iter().position(|(_, step)| is_end(*step)) else {
            if let Some((last, Step::Layer(_))) = self.steps.last() {
                let services: Vec<String> = draft.services.keys().map(|name| format!("\"{name}\"")).collect();
                let those = if services.is_empty() {
                    let kind = one_of(&service_names());
                    format!("none is set up: add [services.local] with kind = {kind}")
                } else {
                    services.join(", ")
                };
                self.fault(last, format!("a stack ends in \"route\" or in a service ({those})"));
            }
            return;
        };
        for (word, _) in &self.steps[end + 1..] {
            let bottom = self.steps[end].0.text;
            self.fault(word, format!("\"{bottom}\" ends a stack; \"{}\" cannot stand below it", word.text));
        }
    }
}

fn facts<'a>(name: &'a str, kind: &'static LayerKind) -> Facts<'a> {
    Facts { name, provides: kind.provides, requires: kind.requires }
}

fn is_end(step: Step) -> bool {
    matches!(step, Step::Route | Step::Service)
}

fn is_on(step: Step, plane: Plane) -> bool {
    matches!(step, Step::Layer(Some(kind)) if kind.plane == plane)
}
