//! The signal to drain a listener: no new frames, finish the calls in flight.

use tokio::sync::watch;

/// The sending side.
#[derive(Debug)]
pub struct DrainSignal(watch::Sender<bool>);

/// The receiving side. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// A new pair.
pub fn drain() -> (DrainSignal, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainSignal(sender), Drain(receiver))
}

impl DrainSignal {
    /// Starts the drain.
    pub fn start(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Whether the drain has started.
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the drain has started. A dropped [`DrainSignal`] counts as started.
    pub async fn started(&self) {
        let mut receiver = self.0.clone();
        let _ = receiver.wait_for(|started| *started).await;
    }
}
