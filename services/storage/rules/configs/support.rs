//! What Yagura does with a config of Kafka.

/// What Yagura does with a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Honoured,
    /// It is taken, kept and shown as Kafka does, and has no effect here, for this reason: the end of a sentence.
    NoEffect(&'static str),
}

impl Support {
    /// Why it has no effect here, if so.
    pub const fn no_effect(self) -> Option<&'static str> {
        match self {
            Support::Honoured => None,
            Support::NoEffect(reason) => Some(reason),
        }
    }

    /// The documentation of a config, which says if it has no effect here. Tools find the last sentence by its
    /// beginning.
    pub(super) fn described(self, documentation: &str) -> String {
        match self.no_effect() {
            None => documentation.to_owned(),
            Some(reason) => format!("{documentation} No effect here, because {reason}."),
        }
    }
}
