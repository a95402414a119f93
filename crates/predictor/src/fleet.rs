//! The predictors of a fleet at one ML API: they tell each other of its pauses, and share out `API_RATE_LIMIT`.
//!
//! The scorer's [`Pace`] holds and limits; this module carries what it learns over the control exchange, and brings
//! what others say. `members` knows who is alive.
//!
//! Guarantees: a message about another ML API changes nothing; each process sends a bounded number of messages, whatever the API answers; a
//! predictor that hears no other takes the whole limit.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_connect::unique_process_name;
use assay_queue::{Broker, Message};
use assay_scoring::{ApiHold, ApiState, Pace, Scorer, ToldHold};
use assay_transaction::{HoldKind, HoldNotice, PredictorNotice, WireError, quoted};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::members::Members;

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a new predictor listens before it takes its share: the others answer it at once.
const LISTEN: Duration = Duration::from_millis(300);
/// Between two messages of a process, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Shorter holds of others are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Longer ones are always logged.
const LONG_HOLD: Duration = Duration::from_secs(10);

/// This predictor among the others.
pub(crate) struct Fleet {
    name: String,
    scorer: Arc<Scorer>,
    members: Mutex<Members>,
    /// A predictor was heard for the first time.
    newcomer: Notify,
    last_logged: Mutex<Option<Instant>>,
}

impl Fleet {
    /// Joins with no share of the limit, until [`tell`](Self::tell) has listened.
    pub(crate) fn join(scorer: Arc<Scorer>) -> Self {
        if scorer.pace().limit().is_some() {
            scorer.pace().set_share(0.0);
        }
        let (members, last_logged) = (Mutex::default(), Mutex::default());
        Self { name: unique_process_name(), scorer, members, newcomer: Notify::new(), last_logged }
    }

    fn pace(&self) -> &Pace {
        self.scorer.pace()
    }

    /// Tells the others of pauses and opened circuits, and shows signs of life while there is a limit to share.
    pub(crate) async fn tell(&self, broker: &dyn Broker) -> Infallible {
        let (mut holds, mut state) = (self.pace().holds(), self.scorer.state());
        let has_limit = self.pace().limit().is_some();
        let mut share_due = Instant::now() + LISTEN;
        if has_limit {
            self.show_life(broker, false).await;
        }
        loop {
            tokio::select! {
                biased;
                () = sleep_until(share_due), if has_limit => {
                    self.show_life(broker, false).await;
                    self.take_share();
                    share_due = Instant::now() + HEARTBEAT;
                }
                // Before the circuit that opens for the same reason, as it binds. An error would mean that the scorer is gone, but
                // `self` holds it.
                _ = holds.changed() => self.tell_hold(broker, &mut holds).await,
                _ = state.changed() => self.tell_circuit(broker, &mut state).await,
                () = self.newcomer.notified(), if has_limit => self.show_life(broker, false).await,
            }
            sleep(PAUSE).await;
        }
    }

    /// Leaves the share to the others.
    pub(crate) async fn leave(&self, broker: &dyn Broker) {
        if self.pace().limit().is_some() {
            self.show_life(broker, true).await;
        }
    }

    /// Follows what another predictor tells, and ignores other messages.
    pub(crate) fn receive(&self, message: &Message) {
        match message.kind.as_str() {
            HoldNotice::MESSAGE_TYPE => match HoldNotice::decode(&message.body) {
                Ok(notice) => self.heed(&notice),
                Err(error) => debug!("ignoring what another predictor tells: {error}"),
            },
            PredictorNotice::MESSAGE_TYPE => match PredictorNotice::decode(&message.body) {
                Ok(notice) => self.meet(notice),
                Err(error) => debug!("ignoring what another predictor tells: {error}"),
            },
            _ => {}
        }
    }

    fn is_of_another(&self, predictor: &str, endpoint: &str) -> bool {
        predictor != self.name && endpoint == self.pace().endpoint()
    }

    fn heed(&self, notice: &HoldNotice) {
        if !self.is_of_another(&notice.predictor, &notice.endpoint) {
            return;
        }
        let hold = Duration::from_millis(notice.hold_ms);
        let told = match notice.kind {
            HoldKind::RetryAfter => {
                #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
                let rate = notice.rows_per_second.map(|rate| rate as f64);
                ToldHold::RetryAfter { hold, rate }
            }
            HoldKind::Circuit => ToldHold::Circuit { hold },
            HoldKind::Unknown => return,
        };
        if let Some(hold) = self.pace().heed(told) {
            self.log(hold, notice);
        }
    }

    fn log(&self, hold: Duration, notice: &HoldNotice) {
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_logged = hold > LONG_HOLD || last.is_none_or(|last| last.elapsed() > LOG_INTERVAL);
        let (seconds, predictor, reason) = (hold.as_secs_f64(), quoted(&notice.predictor), quoted(&notice.reason));
        if is_logged {
            *last = Some(Instant::now());
            info!("sending nothing to the ML API for {seconds:.1} s, as predictor {predictor} tells: {reason}");
        } else {
            debug!("sending nothing to the ML API for {seconds:.1} s, as predictor {predictor} tells: {reason}");
        }
    }

    fn meet(&self, notice: PredictorNotice) {
        if notice.predictor == self.name {
            self.members().hear_itself(Instant::now());
        }
        if self.pace().limit().is_none() || !self.is_of_another(&notice.predictor, &notice.endpoint) {
            return;
        }
        let is_new = self.members().hear(notice, Instant::now());
        if is_new {
            self.newcomer.notify_one();
        }
        // Before this one has listened, it has no share to adapt.
        if self.members().is_listening_over {
            self.take_share();
        }
    }

    fn take_share(&self) {
        let Some(limit) = self.pace().limit() else { return };
        let mut members = self.members();
        members.is_listening_over = true;
        let share = members.share(limit, Instant::now());
        drop(members);
        self.pace().set_share(share);
    }

    async fn tell_hold(&self, broker: &dyn Broker, holds: &mut watch::Receiver<Option<ApiHold>>) {
        let Some(ApiHold { until, reason, rate }) = holds.borrow_and_update().clone() else { return };
        let hold = until.saturating_duration_since(Instant::now());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and finite")]
        let rows_per_second = rate.map(|rate| rate.round() as u64);
        self.broadcast_hold(broker, HoldKind::RetryAfter, hold, reason, rows_per_second).await;
    }

    async fn tell_circuit(&self, broker: &dyn Broker, state: &mut watch::Receiver<ApiState>) {
        let reason = match &*state.borrow_and_update() {
            ApiState::Unavailable { reason, .. } | ApiState::Misconfigured { reason, .. } => reason.clone(),
            _ => return,
        };
        self.broadcast_hold(broker, HoldKind::Circuit, self.scorer.time_until_probe(), reason, None).await;
    }

    async fn broadcast_hold(
        &self,
        broker: &dyn Broker,
        kind: HoldKind,
        hold: Duration,
        reason: String,
        rows_per_second: Option<u64>,
    ) {
        let (predictor, endpoint) = (self.name.clone(), self.pace().endpoint().to_owned());
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        let notice = HoldNotice { predictor, endpoint, kind, hold_ms, reason, rows_per_second };
        broadcast(broker, HoldNotice::MESSAGE_TYPE, notice.encode()).await;
    }

    async fn show_life(&self, broker: &dyn Broker, is_leaving: bool) {
        let (predictor, endpoint) = (self.name.clone(), self.pace().endpoint().to_owned());
        let is_busy = self.pace().is_busy();
        // What it counts for here is what it counts for there.
        self.members().is_busy = is_busy;
        let notice = PredictorNotice { predictor, endpoint, is_busy, is_leaving };
        broadcast(broker, PredictorNotice::MESSAGE_TYPE, notice.encode()).await;
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most once, and not while the broker is away: what is lost is told again, or found out from the API.
async fn broadcast(broker: &dyn Broker, kind: &str, encoded: Result<Vec<u8>, WireError>) {
    let (Ok(body), Ok(())) = (encoded, broker.health()) else { return };
    if let Err(error) = broker.broadcast(Message::without_run(kind, body)).await {
        debug!("cannot tell the other predictors: {error}");
    }
}

#[cfg(test)]
mod tests;
