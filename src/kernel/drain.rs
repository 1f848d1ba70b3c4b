//! The sign that a listener is to be wound down: no new frames, finish what is under way.

use tokio::sync::watch;

/// The side that gives the sign.
#[derive(Debug)]
pub struct DrainSignal(watch::Sender<bool>);

/// The side that waits for it. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// A fresh pair.
pub fn drain() -> (DrainSignal, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainSignal(sender), Drain(receiver))
}

impl DrainSignal {
    /// Tells everybody to wind down.
    pub fn start(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Whether the sign has been given.
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the sign is given. A signal that was dropped counts as given: nobody is left who could.
    pub async fn started(&self) {
        let mut receiver = self.0.clone();
        let _ = receiver.wait_for(|started| *started).await;
    }
}
