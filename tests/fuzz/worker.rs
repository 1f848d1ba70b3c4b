//! A worker: a process that runs one target's inputs, and dies of the first fault.

use std::backtrace::Backtrace;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::coverage::{self, Covered};
use crate::mutate::Mutator;
use crate::record::Record;
use crate::targets::{self, Bounds, Target};
use crate::{corpus, memory, watch};

/// The first argument of a worker.
pub(crate) const FLAG: &str = "--worker";

/// After so many inputs the memory that stays is looked at.
const LOOK_EVERY: u64 = 4096;
/// How much more may stay than did at the first look.
const LEAK_BYTES_MAX: usize = 64 << 20;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) target: String,
    pub(crate) seed: u64,
    /// When to stop; at neither, it runs its corpus alone.
    pub(crate) ms_max: Option<u64>,
    pub(crate) inputs_max: Option<u64>,
    /// Where it says which input it is at.
    pub(crate) record: PathBuf,
}

impl Order {
    /// As arguments of a process.
    pub(crate) fn write(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let record = self.record.display().to_string();
        vec![self.target.clone(), self.seed.to_string(), number(self.ms_max), number(self.inputs_max), record]
    }

    fn read(arguments: &[String]) -> Option<Self> {
        let [target, seed, ms_max, inputs_max, record] = arguments else { return None };
        let number = |text: &str| if text == "-" { Some(None) } else { text.parse().ok().map(Some) };
        Some(Self {
            target: target.clone(),
            seed: seed.parse().ok()?,
            ms_max: number(ms_max)?,
            inputs_max: number(inputs_max)?,
            record: PathBuf::from(record),
        })
    }
}

/// What a worker has to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) inputs: u64,
    pub(crate) ms: u64,
    pub(crate) corpus: u64,
    pub(crate) slowest_us: u64,
    pub(crate) peak_bytes: u64,
    /// Edges of the program that were taken; 0 where none are counted.
    pub(crate) edges: u64,
}

impl Summary {
    /// As a line of a worker's output.
    fn write(&self) -> String {
        let Self { inputs, ms, corpus, slowest_us, peak_bytes, edges } = self;
        format!("{inputs} {ms} {corpus} {slowest_us} {peak_bytes} {edges}")
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [inputs, ms, corpus, slowest_us, peak_bytes, edges] = numbers[..] else { return None };
        Some(Self { inputs, ms, corpus, slowest_us, peak_bytes, edges })
    }
}

/// Runs as a worker.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let order = Order::read(arguments).ok_or_else(|| format!("{arguments:?} is no worker's order"))?;
    // Some readers catch panics, or run on other threads: any panic is a fault.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("fuzz: {panic}\n{}", Backtrace::force_capture());
        std::process::abort();
    }));
    watch::start();
    let mut worker = Worker::new(order)?;
    worker.run()?;
    println!("{}", worker.summary().write());
    Ok(())
}

struct Worker {
    order: Order,
    target: Box<dyn Target>,
    bounds: Bounds,
    mutator: Mutator,
    corpus: Vec<Vec<u8>>,
    corpus_bytes: usize,
    record: Record,
    covered: Covered,
    is_guided: bool,
    started: Instant,
    inputs: u64,
    slowest: Duration,
    peak_bytes: usize,
    /// What stayed at the first look.
    stayed: Option<usize>,
}

impl Worker {
    fn new(order: Order) -> Result<Self, String> {
        let kind = targets::find(&order.target).ok_or_else(|| format!("{} is no target", order.target))?;
        let target = (kind.make)();
        let bounds = target.bounds();
        let record = Record::create(&order.record, bounds.input_bytes_max)
            .map_err(|error| format!("{} cannot be written: {error}", order.record.display()))?;
        Ok(Self {
            mutator: Mutator::new(order.seed, target.words(), bounds.input_bytes_max),
            order,
            target,
            bounds,
            corpus: Vec::new(),
            corpus_bytes: 0,
            record,
            covered: Covered::default(),
            is_guided: coverage::is_on(),
            started: Instant::now(),
            inputs: 0,
            slowest: Duration::ZERO,
            peak_bytes: 0,
            stayed: None,
        })
    }

    fn run(&mut self) -> Result<(), String> {
        for seed in corpus::load(&self.order.target, &*self.target)? {
            let is_new = self.try_input(&seed)?;
            if is_new || !self.is_guided {
                self.add(seed);
            }
        }
        let mut input = Vec::new();
        while !self.corpus.is_empty() && !self.is_over() {
            self.next(&mut input);
            if self.try_input(&input)? {
                corpus::keep(&self.order.target, &input)?;
                self.add(input.clone());
            }
            if self.inputs.is_multiple_of(LOOK_EVERY) {
                self.look_at_what_stays()?;
            }
        }
        Ok(())
    }

    fn add(&mut self, input: Vec<u8>) {
        self.corpus_bytes += input.capacity() + size_of::<Vec<u8>>();
        self.corpus.push(input);
    }

    fn is_over(&self) -> bool {
        let Order { ms_max, inputs_max, .. } = self.order;
        let is_late = ms_max.is_some_and(|ms| self.started.elapsed().as_millis() >= u128::from(ms));
        let has_all = inputs_max.is_some_and(|inputs| self.inputs >= inputs);
        is_late || has_all || (ms_max.is_none() && inputs_max.is_none())
    }

    /// Makes the next input from two of the corpus.
    fn next(&mut self, input: &mut Vec<u8>) {
        let random = self.mutator.random();
        let (one, other) = (random.below(self.corpus.len()), random.below(self.corpus.len()));
        input.clear();
        input.extend_from_slice(&self.corpus[one]);
        self.mutator.mutate(input, &self.corpus[other]);
        if self.mutator.random().one_in(2) {
            self.target.repair(input, self.mutator.random());
        }
    }

    /// Runs an input, and returns whether it covered something new.
    fn try_input(&mut self, input: &[u8]) -> Result<bool, String> {
        self.record.write(input);
        if self.is_guided {
            coverage::clear();
        }
        let before = memory::mark();
        watch::begin();
        let started = Instant::now();
        let outcome = self.target.run(input);
        let took = started.elapsed();
        watch::end();
        let peak = memory::peak_since(before);
        let is_new = self.is_guided && self.covered.merge();
        self.inputs += 1;
        self.slowest = self.slowest.max(took);
        self.peak_bytes = self.peak_bytes.max(peak);
        outcome?;
        let allowed = self.bounds.bytes_max(input.len());
        if peak > allowed {
            let bytes = input.len();
            return Err(format!("an input of {bytes} bytes took {peak} bytes; {allowed} are allowed"));
        }
        Ok(is_new)
    }

    fn look_at_what_stays(&mut self) -> Result<(), String> {
        let stays = memory::live().saturating_sub(self.corpus_bytes);
        let first = *self.stayed.get_or_insert(stays);
        if stays > first + LEAK_BYTES_MAX {
            let inputs = self.inputs;
            return Err(format!(
                "{stays} bytes stay after {inputs} inputs; it was {first} after {LOOK_EVERY}"
            ));
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        Summary {
            inputs: self.inputs,
            ms: self.started.elapsed().as_millis() as u64,
            corpus: self.corpus.len() as u64,
            slowest_us: self.slowest.as_micros() as u64,
            peak_bytes: self.peak_bytes as u64,
            edges: self.covered.edges() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// An order whose record is no other's, also of the same target.
    fn order(target: &str, inputs_max: Option<u64>) -> Order {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("yagura-fuzz-worker-{target}-{}-{number}", std::process::id());
        let record = std::env::temp_dir().join(name);
        Order { target: target.to_owned(), seed: 1, ms_max: None, inputs_max, record }
    }

    #[test]
    fn orders_and_summaries_are_read_as_they_are_written() {
        let order = order("batch", Some(7));
        assert_eq!(Order::read(&order.write()), Some(order));
        assert_eq!(Order::read(&[]), None);
        let summary = Summary { inputs: 1, ms: 2, corpus: 3, slowest_us: 4, peak_bytes: 5, edges: 6 };
        assert_eq!(Summary::read(&summary.write()), Some(summary));
        assert_eq!(Summary::read("1 2"), None);
    }

    /// Every target keeps its promises for its corpus and a few inputs beyond it.
    #[test]
    fn every_target_runs() {
        for kind in &targets::TARGETS {
            let order = order(kind.name, Some(1_000));
            let record = order.record.clone();
            let mut worker = Worker::new(order).unwrap();
            worker.run().unwrap_or_else(|message| panic!("{}: {message}", kind.name));
            assert!(worker.inputs >= 1_000 && !worker.corpus.is_empty(), "{}", kind.name);
            std::fs::remove_file(record).unwrap();
        }
    }

    /// What a promise is worth is seen when it is broken.
    struct Broken;

    impl Target for Broken {
        fn seeds(&self) -> Vec<Vec<u8>> {
            vec![b"seed".to_vec()]
        }

        fn words(&self) -> Vec<Vec<u8>> {
            vec![b"bug".to_vec()]
        }

        fn bounds(&self) -> Bounds {
            Bounds { input_bytes_max: 64, constant: 1 << 20, per_byte: 0 }
        }

        fn run(&mut self, input: &[u8]) -> Result<(), String> {
            if input.windows(3).any(|part| part == b"bug") { Err("as it should".to_owned()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_fault_is_found_and_its_input_recorded() {
        let order = order("batch", Some(100_000));
        let path = order.record.clone();
        let mut worker = Worker::new(order).unwrap();
        worker.target = Box::new(Broken);
        worker.mutator = Mutator::new(1, Broken.words(), 64);
        worker.corpus = Broken.seeds();
        let mut input = Vec::new();
        let found = (0..100_000).find_map(|_| {
            worker.next(&mut input);
            worker.try_input(&input).err()
        });
        assert_eq!(found.as_deref(), Some("as it should"));
        assert_eq!(crate::record::read(&path).unwrap(), input);
        std::fs::remove_file(path).unwrap();
    }
}
