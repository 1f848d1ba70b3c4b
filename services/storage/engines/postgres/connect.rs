//! Opens connections to the server of a store, and finds out whether the server will do.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use super::errors::{NO_SESSIONS, failed, reason};
use super::layout::Layout;
use super::news::{News, is_news};
use super::session::{SETTINGS, Session};
use super::tls;
use super::url::Target;
use crate::engines::StoreError;

/// The oldest version of Postgres that has all that is asked of it.
const VERSION_MIN: i32 = 140_000;
/// How long opening a connection may take in all: several hosts may be tried.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long it is tried again for whoever waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// The channel on which a session is checked.
const CHECK: &str = "yagura_session";
/// How long a session may take to hear what another has notified, which takes a server far less than a millisecond.
const HEAR_DEADLINE: Duration = Duration::from_secs(3);

/// The server of a store.
pub(super) struct Server {
    target: Target,
    tls: MakeRustlsConnect,
    /// What was said of the server already.
    warned: Mutex<Option<String>>,
    /// Is notified of messages in the outbox.
    notified: Arc<Notify>,
    /// Hears what other brokers tell.
    news: OnceLock<Arc<News>>,
}

impl Server {
    pub(super) fn new(target: Target) -> Result<Self, StoreError> {
        let tls = tls::connector(&target.tls).map_err(StoreError)?;
        Ok(Self { target, tls, warned: Mutex::default(), notified: Arc::default(), news: OnceLock::new() })
    }

    /// The schema that holds the store.
    pub(super) fn schema(&self) -> &str {
        &self.target.schema
    }

    /// The layout of topics that do not say.
    pub(super) fn layout(&self) -> Layout {
        self.target.layout
    }

    /// How often the outbox is looked at, if nobody notifies.
    pub(super) fn outbox_poll(&self) -> Duration {
        self.target.outbox_poll
    }

    /// Has what other brokers tell heard.
    pub(super) fn tell(&self, news: Arc<News>) {
        let _ = self.news.set(news);
    }

    /// Is notified of messages in the outbox.
    pub(super) fn notified(&self) -> Arc<Notify> {
        Arc::clone(&self.notified)
    }

    /// Connections at most.
    pub(super) fn connections(&self) -> usize {
        self.target.connections
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    pub(super) async fn connect(&self) -> Result<Session, StoreError> {
        let opened = timeout(DEADLINE, self.open()).await;
        opened.unwrap_or_else(|_| {
            let place = self.target.place();
            Err(StoreError(format!(
                "the Postgres server at {place} did not answer within {DEADLINE:?}; check that it runs, and the host and port of the store's URL"
            )))
        })
    }

    /// The same, tried for some seconds: a server that restarts is soon back.
    pub(super) async fn connect_patiently(&self) -> Result<Session, StoreError> {
        let begun = Instant::now();
        loop {
            match self.connect().await {
                Ok(session) => return Ok(session),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_EVERY).await,
            }
        }
    }

    async fn open(&self) -> Result<Session, StoreError> {
        let mut config = self.target.config.clone();
        if let Some(file) = &self.target.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                StoreError(format!(
                    "the password of the store cannot be read from {}: {error}",
                    file.display()
                ))
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        let connected = config.connect(self.tls.clone()).await;
        let (client, mut connection) = connected.map_err(|error| {
            StoreError(format!(
                "the Postgres server at {} cannot be used: {}",
                self.target.place(),
                reason(&error)
            ))
        })?;
        let session = Session::new(client);
        let (heard, closed) = (Arc::clone(&session.heard), Arc::clone(&session.closed));
        let (notified, news) = (self.notified(), self.news.get().cloned());
        tokio::spawn(async move {
            // Whoever uses the client gets its error.
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                match (message, &news) {
                    (AsyncMessage::Notification(told), Some(news)) if is_news(told.channel()) => {
                        news.heard(told.payload());
                    }
                    (AsyncMessage::Notification(told), _) if told.channel() == CHECK => heard.notify_one(),
                    (AsyncMessage::Notification(_), _) => notified.notify_one(),
                    _ => {}
                }
            }
            closed.notify_one();
        });
        self.check(&session.client).await?;
        Ok(session)
    }

    /// Sets what every connection sets, and looks whether the server will do.
    async fn check(&self, client: &Client) -> Result<(), StoreError> {
        let setting = |error| failed("connecting to", &error);
        let version = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
            current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
            current_setting('transaction_read_only')";
        let row = client.query_one(version, &[]).await.map_err(setting)?;
        let (number, version): (i32, String) = (row.get(0), row.get(1));
        let (encoding, fsync, pages): (String, String, String) = (row.get(2), row.get(3), row.get(4));
        if number < VERSION_MIN {
            return Err(StoreError(format!(
                "the Postgres server is of version {version}, and Yagura needs 14 or later; upgrade it"
            )));
        }
        if encoding != "UTF8" {
            return Err(StoreError(format!(
                "the database has the encoding {encoding}, and Yagura needs UTF8; create one with ENCODING 'UTF8' TEMPLATE template0"
            )));
        }
        if row.get::<_, &str>(5) == "on" {
            return Err(StoreError(format!(
                "the Postgres server at {} is a standby or read-only; name the primary in the store's URL, or all servers of the cluster: the one that takes writes is looked for",
                self.target.place()
            )));
        }
        for (name, value) in [("fsync", fsync), ("full_page_writes", pages)] {
            if value == "off" {
                self.warn_once(format!(
                    "the Postgres server has {name} = off: a crash of its machine can lose or destroy what was acknowledged; set it on"
                ));
            }
        }
        let search_path = format!("{SETTINGS}; SET search_path = {}", self.target.schema);
        client.batch_execute(&search_path).await.map_err(setting)
    }

    fn warn_once(&self, what: String) {
        let mut warned = self.warned.lock();
        if warned.as_ref() != Some(&what) {
            warn!("{what}");
            *warned = Some(what);
        }
    }
}

/// Looks whether each connection has a session of its own: a pooler may lend the same few to all, for a statement or a transaction
/// each, and what a session sets, prepares, locks and listens to would be another's.
///
/// One connection listens, and the other notifies. A session of such a pooler belongs to nobody between two statements: what
/// it hears then is lost, or is the other's, if that was lent the same.
///
/// # Errors
/// It does, as a sentence with the remedy.
pub(super) async fn check_sessions(one: &Session, other: &Session) -> Result<(), StoreError> {
    let run = async |session: &Session, sql| {
        session.run(sql).await.map_err(|error| failed("connecting to", &error))
    };
    run(one, "LISTEN yagura_session").await?;
    run(other, "NOTIFY yagura_session").await?;
    let is_own = tokio::select! {
        () = one.heard.notified() => true,
        () = other.heard.notified() => false,
        () = tokio::time::sleep(HEAR_DEADLINE) => false,
    };
    if !is_own {
        return Err(StoreError(NO_SESSIONS.to_owned()));
    }
    run(one, "UNLISTEN yagura_session").await
}
