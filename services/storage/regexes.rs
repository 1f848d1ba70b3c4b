//! The topics that match the regular expressions of members (KIP-848), worked out aside; and other names that match one.
//!
//! An expression is matched against every topic, which may take a while for ten thousand. So it happens once per
//! expression and change of topics, on a thread of its own, one expression at a time, and for at most [`TIME_MAX`]. As
//! long as it is remembered, an expression is not matched again before ten times as long has passed as the last time
//! took: one that many new topics make due again and again costs a tenth of a core.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::ErrorCode;
use kernel::ports::TopicDirectory;
use parking_lot::Mutex;
use regex_lite::{Regex, RegexBuilder};
use rules::commands::Refused;
use tokio::sync::Semaphore;

/// Limits on an expression and on its compiled form, in bytes.
const LENGTH_MAX: usize = 1024;
const COMPILED_BYTES_MAX: usize = 32 << 10;
/// Limit on the CPU time to match an expression against all topics.
const TIME_MAX: Duration = Duration::from_secs(1);
/// How much longer than the last time took an expression rests.
const REST_FACTOR: u32 = 10;
/// Limits on what is remembered: expressions, and topics in all of them (about 40 bytes each).
const REMEMBERED_MAX: usize = 256;
const TOPICS_MAX: usize = 100_000;

/// Topic names in order.
pub(crate) type Names = Arc<BTreeSet<Arc<str>>>;

/// The topics that match an expression.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    pub(crate) topics: Names,
    /// The version of the topics that it was matched against, which may not be the latest.
    pub(crate) version: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum RegexError {
    /// The expression is refused.
    Refused(Refused),
    /// The topics cannot be looked up.
    Failed(String),
}

/// The expressions that were matched last.
pub(crate) struct Regexes {
    remembered: Mutex<HashMap<Arc<str>, Remembered>>,
    turn: Arc<Semaphore>,
    /// The turn of what is not about topics, which must not hold up groups.
    other_turn: Arc<Semaphore>,
}

struct Remembered {
    outcome: Outcome,
    version: u64,
    rests_until: Instant,
    used: Instant,
}

/// What came of an expression.
#[derive(Debug, Clone)]
enum Outcome {
    Matches(Names),
    /// It took too long this time.
    TookTooLong(Refused),
}

impl Outcome {
    fn topics(&self) -> usize {
        if let Outcome::Matches(topics) = self { topics.len() } else { 0 }
    }

    fn answer(self, version: u64) -> Answer {
        match self {
            Outcome::Matches(topics) => Ok(Some(Matching { topics, version })),
            Outcome::TookTooLong(refused) => Err(RegexError::Refused(refused)),
        }
    }
}

type Answer = Result<Option<Matching>, RegexError>;

impl Default for Regexes {
    fn default() -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self { remembered: Mutex::default(), turn: turn(), other_turn: turn() }
    }
}

impl Regexes {
    /// The topics that match an expression; `None` if others are at work and the caller does not wait.
    pub(crate) async fn matching(
        &self,
        directory: &dyn TopicDirectory,
        regex: &Arc<str>,
        waits: bool,
    ) -> Answer {
        if let Some(known) = self.recall(regex, directory.version()) {
            return known;
        }
        let turn = match Arc::clone(&self.turn).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) if !waits => return Ok(None),
            Err(_) => {
                let turn = Arc::clone(&self.turn).acquire_owned().await;
                turn.map_err(|_| RegexError::Failed("the broker is closing".to_owned()))?
            }
        };
        let version = directory.version();
        // Another call may have matched it meanwhile.
        if let Some(known) = self.recall(regex, version) {
            return known;
        }
        let compiled = compile(regex).map_err(RegexError::Refused)?;
        let names =
            directory.all().await.map_err(RegexError::Failed)?.into_iter().map(|topic| topic.name).collect();
        let started = Instant::now();
        let matched = tokio::task::spawn_blocking(move || {
            let matched = match_all(&compiled, names, TIME_MAX);
            // The turn ends with the work, also if nobody waits for it any more.
            drop(turn);
            matched
        });
        let outcome = matched.await.map_err(|error| RegexError::Failed(error.to_string()))?;
        self.remember(regex, outcome.clone(), version, started.elapsed());
        outcome.answer(version)
    }

    /// Those of some names that match an expression, one expression at a time. Nothing is remembered.
    pub(crate) async fn filter(&self, regex: &str, names: Vec<Arc<str>>) -> Result<Names, RegexError> {
        let compiled = compile(regex).map_err(RegexError::Refused)?;
        let turn = Arc::clone(&self.other_turn).acquire_owned().await;
        let turn = turn.map_err(|_| RegexError::Failed("the broker is closing".to_owned()))?;
        let matched = tokio::task::spawn_blocking(move || {
            let matched = match_all(&compiled, names, TIME_MAX);
            drop(turn);
            matched
        });
        match matched.await.map_err(|error| RegexError::Failed(error.to_string()))? {
            Outcome::Matches(names) => Ok(names),
            Outcome::TookTooLong(refused) => Err(RegexError::Refused(refused)),
        }
    }

    fn recall(&self, regex: &Arc<str>, version: u64) -> Option<Answer> {
        let mut all = self.remembered.lock();
        let known = all.get_mut(regex)?;
        let now = Instant::now();
        known.used = now;
        let holds = known.version == version && !matches!(known.outcome, Outcome::TookTooLong(_));
        (holds || now < known.rests_until).then(|| known.outcome.clone().answer(known.version))
    }

    fn remember(&self, regex: &Arc<str>, outcome: Outcome, version: u64, took: Duration) {
        let now = Instant::now();
        let rests_until = now + took * REST_FACTOR;
        let mut all = self.remembered.lock();
        all.insert(Arc::clone(regex), Remembered { outcome, version, rests_until, used: now });
        let mut topics: usize = all.values().map(|known| known.outcome.topics()).sum();
        while all.len() > REMEMBERED_MAX || (topics > TOPICS_MAX && all.len() > 1) {
            let oldest = all.iter().min_by_key(|(_, known)| known.used).map(|(regex, _)| Arc::clone(regex));
            topics -= oldest.and_then(|regex| all.remove(&regex)).map_or(0, |known| known.outcome.topics());
        }
    }
}

fn compile(regex: &str) -> Result<Regex, Refused> {
    if regex.len() > LENGTH_MAX {
        return Err(refused(format!(
            "a regular expression has at most {LENGTH_MAX} bytes, this one {}",
            regex.len()
        )));
    }
    let whole_name = RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(COMPILED_BYTES_MAX).build();
    whole_name.map_err(|error| refused(format!("{regex:?} is not a regular expression (RE2): {error}")))
}

fn match_all(regex: &Regex, names: Vec<Arc<str>>, time_max: Duration) -> Outcome {
    let (started, count) = (cpu_time(), names.len());
    let mut matching = BTreeSet::new();
    for name in names {
        if cpu_time().saturating_sub(started) > time_max {
            let message = format!(
                "the regular expression takes longer than {time_max:?} to match {count} topics; use a simpler one"
            );
            return Outcome::TookTooLong(refused(message));
        }
        if regex.is_match(&name) {
            matching.insert(name);
        }
    }
    Outcome::Matches(Arc::new(matching))
}

/// CPU time of this thread: an expression is not to blame for what others take, or for a pause of the machine.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How many names match; see [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn count_matching(regex: &str, names: Vec<Arc<str>>) -> Option<usize> {
    match match_all(&compile(regex).ok()?, names, TIME_MAX) {
        Outcome::Matches(topics) => Some(topics.len()),
        Outcome::TookTooLong(_) => None,
    }
}

fn refused(message: String) -> Refused {
    Refused::new(ErrorCode::InvalidRegularExpression, message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use kernel::TopicId;
    use kernel::ports::{BoxFuture, TopicFacts};
    use uuid::Uuid;

    use super::*;

    /// The topics `topic-0` to one less than the version.
    struct Directory {
        version: AtomicU64,
        asked: AtomicUsize,
    }

    impl TopicDirectory for Directory {
        fn by_name(&self, _: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            unreachable!("regular expressions look at all topics")
        }

        fn by_id(&self, _: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            unreachable!("regular expressions look at all topics")
        }

        fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let topic = |number: u64| {
                let name = Arc::from(format!("topic-{number}"));
                TopicFacts { name, id: TopicId(Uuid::from_u128(number.into())), partitions: 1 }
            };
            let all = (0..self.version()).map(topic).collect();
            Box::pin(std::future::ready(Ok(all)))
        }

        fn version(&self) -> u64 {
            self.version.load(Ordering::Relaxed)
        }
    }

    fn directory(topics: u64) -> Directory {
        Directory { version: AtomicU64::new(topics), asked: AtomicUsize::new(0) }
    }

    #[tokio::test]
    async fn an_expression_is_matched_once_per_change_of_topics() {
        let (regexes, directory) = (Regexes::default(), directory(3));
        let regex = Arc::from("topic-[1-9]");
        for _ in 0..10 {
            let matching = regexes.matching(&directory, &regex, true).await.unwrap().unwrap();
            let names: Vec<&str> = matching.topics.iter().map(|name| &**name).collect();
            assert_eq!((names, matching.version), (vec!["topic-1", "topic-2"], 3));
        }
        assert_eq!(directory.asked.load(Ordering::Relaxed), 1);
        directory.version.store(4, Ordering::Relaxed);
        // It may rest for a moment, and says so.
        while regexes.matching(&directory, &regex, true).await.unwrap().unwrap().version == 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(regexes.matching(&directory, &regex, true).await.unwrap().unwrap().topics.len(), 3);
        assert_eq!(directory.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (regexes, directory) = (Regexes::default(), directory(1_000));
        for number in 0..2 * REMEMBERED_MAX {
            regexes.matching(&directory, &Arc::from(format!("topic-.*|{number}")), true).await.unwrap();
        }
        let remembered = regexes.remembered.lock();
        let topics: usize = remembered.values().map(|known| known.outcome.topics()).sum();
        assert!(remembered.len() <= REMEMBERED_MAX && topics <= TOPICS_MAX, "{} {topics}", remembered.len());
        assert!(remembered.contains_key(&*format!("topic-.*|{}", 2 * REMEMBERED_MAX - 1)));
    }

    #[tokio::test]
    async fn expressions_that_are_wrong_too_long_or_too_much_work_are_refused() {
        let (regexes, directory) = (Regexes::default(), directory(3));
        for (regex, why) in
            [("(", "is not a regular"), (&*"x".repeat(1_025), "at most 1024"), ("x{1000}{1000}", "size")]
        {
            match regexes.matching(&directory, &Arc::from(regex), true).await {
                Err(RegexError::Refused(refused)) => {
                    assert_eq!(refused.error, ErrorCode::InvalidRegularExpression);
                    assert!(refused.message.contains(why), "{refused:?}");
                }
                other => panic!("{regex}: {other:?}"),
            }
        }
        let names = (0..10).map(|number| Arc::from(number.to_string())).collect();
        match match_all(&compile(".*").unwrap(), names, Duration::ZERO) {
            Outcome::TookTooLong(refused) => {
                assert!(refused.message.contains("takes longer than 0ns to match 10 topics"), "{refused:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn names_that_are_no_topics_are_matched_as_a_whole() {
        let regexes = Regexes::default();
        let names = || ["payments-1", "payments-22", "x-payments-1"].map(Arc::from).to_vec();
        let matching = regexes.filter("payments-.", names()).await.unwrap();
        assert_eq!(matching.iter().map(|name| &**name).collect::<Vec<_>>(), ["payments-1"]);
        assert!(matches!(regexes.filter("(", names()).await, Err(RegexError::Refused(_))));
    }

    #[tokio::test]
    async fn what_took_too_long_once_is_tried_again() {
        let (regexes, directory) = (Regexes::default(), directory(3));
        let regex = Arc::from("topic-1");
        let too_long = Outcome::TookTooLong(refused("too long".to_owned()));
        let took = Duration::from_secs(3_600);
        regexes.remember(&regex, too_long.clone(), 3, took);
        assert!(regexes.matching(&directory, &regex, true).await.is_err(), "it rests");
        let rests = regexes.remembered.lock()[&regex].rests_until.saturating_duration_since(Instant::now());
        assert!(rests > took * (REST_FACTOR / 2), "{rests:?}");
        regexes.remember(&regex, too_long, 3, Duration::ZERO);
        assert_eq!(regexes.matching(&directory, &regex, true).await.unwrap().unwrap().topics.len(), 1);
    }

    #[tokio::test]
    async fn who_does_not_wait_has_no_answer_while_others_are_at_work() {
        let (regexes, directory) = (Regexes::default(), directory(3));
        let regex = Arc::from("topic-1");
        let turn = Arc::clone(&regexes.turn).acquire_owned().await.unwrap();
        assert!(regexes.matching(&directory, &regex, false).await.unwrap().is_none());
        drop(turn);
        assert!(regexes.matching(&directory, &regex, false).await.unwrap().is_some());
        let _turn = Arc::clone(&regexes.turn).acquire_owned().await.unwrap();
        assert!(regexes.matching(&directory, &regex, false).await.unwrap().is_some(), "it is remembered");
    }
}
