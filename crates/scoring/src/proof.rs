//! How a broken model is kept from failing rows: what shows that it worked after it refused some.
//!
//! The rule is in [`Inquiry::is_proven`]; it is written down, with its reasons, in
//! `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

use crate::ScoreError;
use crate::breaker::Cause;
use crate::canary::Control;
use crate::failure::Sign;
use crate::http::Trouble;
use crate::request::{Inquiry, Refusal, Shared, rows_sign};

/// What a control showed.
#[derive(Debug)]
pub(crate) enum Controlled {
    Scored,
    Refused(Sign),
    /// The API is away.
    Away(Cause, Trouble),
}

impl Inquiry<'_> {
    /// Whether the model is known to have worked after the refusal, so that the rows may be at fault.
    ///
    /// The proof is a row that a later request scored: any request of this process, or, where none comes, a control. While
    /// the model does not even score the control it is broken, and the circuit is opened. A process that has never seen a
    /// row scored may halve without proof, as that may find the first one; but it fails no row.
    pub(crate) async fn is_proven(self, refusal: Refusal, is_alone: bool) -> Result<bool, ScoreError> {
        let Shared { circuit, evidence, policy, control, .. } = self.shared;
        if !evidence.proves_since(refusal.at) && circuit.is_closed() && evidence.is_something_under_way() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ScoreError::Stopped),
                () = evidence.proof_since(refusal.at) => {}
                () = tokio::time::sleep(policy.patience) => {}
            }
        }
        let _alone = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ScoreError::Stopped),
            alone = control.lock() => alone,
        };
        if self.is_overtaken(refusal) {
            return Ok(false);
        }
        if evidence.proves_since(refusal.at) || !is_alone && evidence.known_good().is_none() {
            return Ok(true);
        }
        match self.control().await? {
            Controlled::Scored => return Ok(true),
            Controlled::Refused(sign) => circuit.open(Cause::BrokenModel, &sign.into()),
            Controlled::Away(cause, trouble) => circuit.open(cause, &trouble),
        }
        Ok(false)
    }

    /// Asks for a transaction that was scored before and, where that is refused or there is none, for a made-up one.
    pub(crate) async fn control(self) -> Result<Controlled, ScoreError> {
        let mut seen = Controlled::Refused(Sign::Incomplete("no transaction to ask for"));
        for control in self.shared.evidence.known_good().into_iter().chain(Control::made_up()) {
            seen = self.ask_for(control).await?;
            if !matches!(seen, Controlled::Refused(_)) {
                break;
            }
        }
        Ok(seen)
    }

    /// Asks for one transaction that no row is waiting for.
    pub(crate) async fn ask_for(self, control: Control) -> Result<Controlled, ScoreError> {
        let Shared { evidence, circuit, counters, .. } = self.shared;
        let permit = self.permit().await?;
        counters.control();
        let sent = evidence.tick();
        Ok(match self.send(std::iter::once((control.id, &control.transaction)), permit).await {
            Ok(rows) if rows.iter().all(Result::is_ok) => {
                evidence.scored(sent, control);
                circuit.succeeded();
                Controlled::Scored
            }
            Ok(rows) => Controlled::Refused(rows_sign(&rows)),
            Err(trouble) => match Cause::of(trouble.sign) {
                Some(cause) => Controlled::Away(cause, trouble),
                None => Controlled::Refused(trouble.sign),
            },
        })
    }
}
