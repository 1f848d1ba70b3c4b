//! All targets in turn, each by several workers, and what came of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kernel::clock::{Clock, SystemClock};

use crate::targets::{self, Kind};
use crate::worker::{self, Order, Summary};
use crate::{corpus, record};

/// How long all targets take together, if nothing is said.
const SECONDS: u64 = 5;

/// What is asked for.
struct Plan {
    targets: Vec<&'static Kind>,
    ms_max: Option<u64>,
    inputs_max: Option<u64>,
    /// One for each worker of a target.
    seeds: Vec<u64>,
}

/// Runs all that the arguments name.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    if let Some(path) = std::env::var_os("FUZZ_INPUT") {
        return run_alone(Path::new(&path));
    }
    // `cargo test` hands everybody the options of its own harness.
    let (options, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| argument.starts_with('-'));
    let is_wanted = |kind: &&Kind| names.is_empty() || names.iter().any(|name| kind.name.contains(&***name));
    let targets: Vec<&'static Kind> = targets::TARGETS.iter().filter(is_wanted).collect();
    if options.iter().any(|option| *option == "--list") {
        targets.iter().for_each(|kind| println!("{}: test", kind.name));
        return Ok(());
    }
    if targets.is_empty() {
        return Ok(());
    }
    Plan::read(targets)?.run()
}

fn number(name: &str) -> Result<Option<u64>, String> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    let number = text.replace('_', "").parse();
    number.map(Some).map_err(|_| format!("{name} is {text:?}; it has to be a whole number, such as 60"))
}

impl Plan {
    fn read(targets: Vec<&'static Kind>) -> Result<Self, String> {
        let (seconds, inputs_max) = (number("FUZZ_SECONDS")?, number("FUZZ_INPUTS")?);
        let seconds = if seconds.is_none() && inputs_max.is_none() { Some(SECONDS) } else { seconds };
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let jobs = number("FUZZ_JOBS")?.unwrap_or_else(cores).max(1);
        // One seed is always the same, so that a fault which it finds is found by everybody.
        let (first, others) = match number("FUZZ_SEED")? {
            Some(seed) => (seed, seed),
            None => (1, SystemClock.now_ms() as u64),
        };
        let seeds = (0..jobs).map(|job| if job == 0 { first } else { others.wrapping_add(job) }).collect();
        Ok(Self { targets, ms_max: seconds.map(|seconds| seconds * 1000), inputs_max, seeds })
    }

    fn run(&self) -> Result<(), String> {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        println!("fuzz: seeds {}", seeds.join(", "));
        println!(
            "{:<10} {:>12} {:>10} {:>8} {:>11} {:>10} {:>8}",
            "target", "inputs", "inputs/s", "corpus", "slowest ms", "peak KiB", "edges"
        );
        let (mut inputs, mut faults) = (0, Vec::new());
        for kind in &self.targets {
            match self.run_target(kind) {
                Ok(summary) => inputs += summary.inputs,
                Err(message) => faults.push(message),
            }
        }
        println!("{inputs} inputs");
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\nfuzz: ")) }
    }

    /// Its part of what all targets have together.
    fn share(&self, whole: u64, kind: &Kind) -> u64 {
        let all: u64 = self.targets.iter().map(|kind| kind.weight).sum();
        (whole * kind.weight).div_ceil(all)
    }

    fn run_target(&self, kind: &Kind) -> Result<Summary, String> {
        let folder = corpus::output().join("workers");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut workers = Vec::new();
        for (job, seed) in self.seeds.iter().enumerate() {
            let order = Order {
                target: kind.name.to_owned(),
                seed: *seed,
                ms_max: self.ms_max.map(|ms| self.share(ms, kind)),
                inputs_max: self
                    .inputs_max
                    .map(|inputs| self.share(inputs, kind).div_ceil(self.seeds.len() as u64)),
                record: folder.join(format!("{}-{}-{job}", std::process::id(), kind.name)),
            };
            let child = start(&order);
            workers.push((order, child));
        }
        let outcomes: Vec<_> = workers.into_iter().map(|(order, child)| outcome(&order, child)).collect();
        let (mut all, mut faults) = (Summary::default(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok(summary) => all = together(all, summary),
                Err(message) => faults.push(message),
            }
        }
        show(kind, &all);
        if faults.is_empty() { Ok(all) } else { Err(faults.join("\nfuzz: ")) }
    }
}

fn start(order: &Order) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut command = Command::new(program);
    command.arg(worker::FLAG).args(order.write()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|error| format!("a worker cannot be started: {error}"))
}

/// Waits for a worker. If it has failed, keeps the input that it was at.
fn outcome(order: &Order, child: Result<Child, String>) -> Result<Summary, String> {
    let Order { target, seed, record, .. } = order;
    let output = child?.wait_with_output().map_err(|error| format!("{target}: {error}"))?;
    let summary = Summary::read(&String::from_utf8_lossy(&output.stdout));
    let input = record::read(record);
    // It may never have been made.
    let _ = fs::remove_file(record);
    if let (true, Some(summary)) = (output.status.success(), summary) {
        return Ok(summary);
    }
    let failed = format!("{target} failed with seed {seed} ({})", output.status);
    let Some(input) = input else { return Err(format!("{failed} before the first input")) };
    let path = corpus::keep_failed(target, &input)?;
    let path = path.canonicalize().unwrap_or(path);
    Err(format!(
        "{failed}; its input is in {path}\nfuzz: to run it alone: FUZZ_INPUT={path} cargo test -p yagura-fuzz \
         --test campaign",
        path = path.display()
    ))
}

fn together(one: Summary, other: Summary) -> Summary {
    Summary {
        inputs: one.inputs + other.inputs,
        ms: one.ms.max(other.ms),
        corpus: one.corpus.max(other.corpus),
        slowest_us: one.slowest_us.max(other.slowest_us),
        peak_bytes: one.peak_bytes.max(other.peak_bytes),
        edges: one.edges.max(other.edges),
    }
}

fn show(kind: &Kind, summary: &Summary) {
    let Summary { inputs, ms, corpus, slowest_us, peak_bytes, edges } = summary;
    let per_second = inputs * 1000 / (*ms).max(1);
    let edges = if *edges == 0 { "-".to_owned() } else { edges.to_string() };
    println!(
        "{:<10} {inputs:>12} {per_second:>10} {corpus:>8} {:>11.1} {:>10} {edges:>8}",
        kind.name,
        *slowest_us as f64 / 1000.0,
        peak_bytes / 1024,
    );
}

/// Runs one input in this process, so that a debugger or a backtrace shows where it fails.
fn run_alone(path: &Path) -> Result<(), String> {
    let path: PathBuf =
        if path.is_relative() && !path.exists() { corpus::root().join(path) } else { path.to_owned() };
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let folder = folder.unwrap_or_default();
    let kind = targets::find(&folder).ok_or_else(|| {
        let names: Vec<&str> = targets::TARGETS.iter().map(|kind| kind.name).collect();
        format!(
            "{} is in the folder {folder:?}, which says for no target; put it into one that is called {}",
            path.display(),
            names.join(", ")
        )
    })?;
    let input = fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let mut target = (kind.make)();
    let before = crate::memory::mark();
    target.run(&input)?;
    let peak = crate::memory::peak_since(before);
    let allowed = target.bounds().bytes_max(input.len());
    let bytes = input.len();
    if peak > allowed {
        return Err(format!("an input of {bytes} bytes took {peak} bytes; {allowed} are allowed"));
    }
    println!("fuzz: {}: no fault; {bytes} bytes took {peak} bytes", kind.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn the_input_of_a_worker_that_died_is_kept() {
        let path = std::env::temp_dir().join(format!("yagura-fuzz-campaign-{}", std::process::id()));
        Record::create(&path, 64).unwrap().write(b"deadly");
        let order = Order {
            target: "batch".to_owned(),
            seed: 7,
            ms_max: None,
            inputs_max: None,
            record: path.clone(),
        };
        let child = Command::new("false").stdout(Stdio::piped()).spawn().unwrap();
        let message = outcome(&order, Ok(child)).unwrap_err();
        let kept = corpus::keep_failed("batch", b"deadly").unwrap();
        let name = kept.file_name().unwrap().to_str().unwrap();
        assert!(message.contains("batch failed with seed 7"), "{message}");
        assert!(message.contains("FUZZ_INPUT=") && message.contains(name), "{message}");
        assert_eq!(fs::read(&kept).unwrap(), b"deadly");
        fs::remove_file(kept).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn targets_share_the_time_by_their_weights() {
        let targets: Vec<&'static Kind> = targets::TARGETS.iter().collect();
        let plan = Plan { targets, ms_max: Some(60_000), inputs_max: None, seeds: vec![1] };
        let shares = plan.targets.iter().map(|kind| plan.share(60_000, kind));
        let all: u64 = shares.sum();
        assert!((60_000..60_100).contains(&all), "{all}");
    }
}
