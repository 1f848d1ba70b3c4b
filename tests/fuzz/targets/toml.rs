//! Configs: the text of a file, to settings or to faults.

use std::fs;

use super::{Bounds, Target, words};
use crate::corpus;

/// The target.
pub(super) struct Toml;

impl Target for Toml {
    /// What is shipped, what is shown, and what is refused.
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for folder in ["config/stacks", "config/broken", "examples"] {
            let Ok(entries) = fs::read_dir(corpus::root().join(folder)) else { continue };
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
            paths.sort();
            seeds.extend(paths.iter().filter_map(|path| fs::read(path).ok()));
        }
        seeds
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words(&[
            "[listeners.main]\n",
            "[services.local]\n",
            "[layers.framing]\n",
            "[layers.limits]\n",
            "[route]\n",
            "[[route.rules]]\n",
            "[admin]\n",
            "[log]\n",
            "[node]\n",
            "kind = ",
            "\"storage\"",
            "url = ",
            "\"memory://\"",
            "sqlite://",
            "stack = ",
            "bind = ",
            "\"127.0.0.1:0\"",
            "[::1]:9092",
            "${NAME}",
            "${",
            "$$",
            "env:",
            "100MiB",
            "99999999999999999999GiB",
            "-1s",
            "0ms",
            "1e308",
            "nan",
            "inf",
            "true",
            "'''",
            "\"\"\"",
            "[[[[[[[[[[[[[[[[",
            "{a={a={a={a={",
            "\\u0000",
            "\\U0010FFFF",
            "\r\n",
            "1979-05-27T07:32:00Z",
            "0xffffffffffffffff",
            "default = ",
            "topic = ",
            "to = ",
            "frame_bytes_max = ",
            "advertise = ",
            "\u{feff}",
        ])
    }

    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 8 << 10, constant: 16 << 20, per_byte: 4000 }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        // A secret may be in a file: one of this machine's own would be read, and a device never ends.
        if text.contains("file:") {
            return Ok(());
        }
        let env = |name: &str| (name == "NAME").then(|| "value".to_owned());
        match config::parse("fuzz.toml", &text, &env) {
            Ok(config) if config.listeners.is_empty() => {
                Err("a config without a listener is accepted".to_owned())
            }
            Ok(_) => Ok(()),
            Err(faults) if faults.to_string().is_empty() => Err("it is refused without a reason".to_owned()),
            Err(_) => Ok(()),
        }
    }
}
