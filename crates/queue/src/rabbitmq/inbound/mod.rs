//! Repairing inbound frames before the client reads them.
//!
//! RabbitMQ passes on whatever was published. The client loses its connection over a short text that is not UTF-8 and over a
//! header frame that outgrew the largest frame (RabbitMQ adds headers of its own), and overflows its stack over tables nested a
//! thousand deep; so one message could stop all programs for ever. [`InboundFrames`] checks each method and header frame, and
//! repairs it (`repair`). A message with a damaged identity carries a mark ([`crate::message::SUBSTITUTE`]), becomes a dead
//! letter, and is counted.
//!
//! Guarantee: the client can read everything that can be published. Bodies pass untouched. At most one frame is held back.

mod repair;

use tracing::warn;

use self::repair::Damage;
use crate::metrics;

/// The largest frame, RabbitMQ's default. The client's stack, and what is held back here, grow with it.
pub(super) const MAX_FRAME: u32 = 128 * 1024;
/// The smallest limit on frames that AMQP allows.
pub(super) const MIN_FRAME: u32 = 4096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Type, channel and length.
const BEFORE_PAYLOAD: usize = 7;
const FRAME_END: u8 = 206;

pub(super) struct InboundFrames {
    /// The client may take `taken..ready`; the rest is not checked yet.
    bytes: Vec<u8>,
    taken: usize,
    ready: usize,
    /// Bytes to come of a frame that passes untouched.
    passing: usize,
    /// Bytes to come of a frame that is dropped.
    dropping: usize,
    max_frame: usize,
    /// The kinds of damage already logged.
    logged: Vec<Damage>,
}

impl InboundFrames {
    /// `max_frame` is the limit that the client asks for; RabbitMQ may offer less.
    pub(super) fn new(max_frame: u32) -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            ready: 0,
            passing: 0,
            dropping: 0,
            max_frame: to_usize(max_frame),
            logged: Vec::new(),
        }
    }

    pub(super) fn feed(&mut self, received: &[u8]) {
        self.bytes.drain(..self.taken);
        self.ready -= self.taken;
        self.taken = 0;
        self.bytes.extend_from_slice(received);
        while self.advance() {}
    }

    pub(super) fn take(&mut self, room: &mut [u8]) -> usize {
        let ready = &self.bytes[self.taken..self.ready];
        let length = ready.len().min(room.len());
        room[..length].copy_from_slice(&ready[..length]);
        self.taken += length;
        length
    }

    /// Checks the next frame; `false` if it is incomplete.
    fn advance(&mut self) -> bool {
        let waiting = self.bytes.len() - self.ready;
        if self.passing > 0 {
            let passed = self.passing.min(waiting);
            self.ready += passed;
            self.passing -= passed;
            return passed > 0;
        }
        if self.dropping > 0 {
            let dropped = self.dropping.min(waiting);
            self.bytes.drain(self.ready..self.ready + dropped);
            self.dropping -= dropped;
            return dropped > 0;
        }
        let frame = &mut self.bytes[self.ready..];
        let (Some(&kind), Some(&[a, b, c, d])) = (frame.first(), frame.get(3..BEFORE_PAYLOAD)) else { return false };
        let payload = to_usize(u32::from_be_bytes([a, b, c, d]));
        let length = payload.saturating_add(BEFORE_PAYLOAD + 1);
        match kind {
            METHOD | HEADER if length <= self.max_frame => {
                let Some(frame) = frame.get_mut(..length) else { return false };
                let payload = &mut frame[BEFORE_PAYLOAD..length - 1];
                if kind == METHOD {
                    if let Some(offered) = repair::offered_frame_max(payload).filter(|&offered| offered > 0) {
                        self.max_frame = self.max_frame.min(to_usize(offered.max(MIN_FRAME)));
                    }
                    let damage = repair::method(payload);
                    self.ready += length;
                    self.report(damage);
                } else {
                    match repair::content_header(payload) {
                        Ok(damage) => {
                            self.ready += length;
                            self.report(damage);
                        }
                        Err(repair::Unreadable) => return self.leave_out_properties(length),
                    }
                }
            }
            HEADER => return self.leave_out_properties(length),
            _ => self.passing = length,
        }
        true
    }

    /// Replaces a header frame of that length by one without properties.
    fn leave_out_properties(&mut self, length: usize) -> bool {
        let frame = &self.bytes[self.ready..];
        let here = frame.len().min(length);
        let whole = here == length;
        let Some(kept) = frame.get(BEFORE_PAYLOAD..here.min(length - 1)).and_then(repair::before_properties) else {
            if whole {
                // Not a header frame; the client will report it.
                self.ready += length;
            }
            return whole;
        };
        let payload = [kept, &repair::NO_PROPERTIES].concat();
        let payload_length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        let replaced = [&frame[..3], &payload_length, &payload, &[FRAME_END]].concat();
        self.bytes.splice(self.ready..self.ready + here, replaced.iter().copied());
        self.ready += replaced.len();
        self.dropping = length - here;
        self.report(Some(Damage::Properties));
        true
    }

    fn report(&mut self, damage: Option<Damage>) {
        let Some(damage) = damage else { return };
        metrics::malformed(damage.name());
        if !self.logged.contains(&damage) {
            self.logged.push(damage);
            let what = match damage {
                Damage::Text => "a property that is not UTF-8",
                Damage::Nesting => "headers that are nested too deep",
                Damage::Properties => "unreadable properties",
            };
            warn!(
                "received a message with {what}; if its identity is damaged, it becomes a dead letter: check who may publish"
            );
        }
    }
}

/// The labels of damage in the metric.
pub(crate) fn damages() -> impl Iterator<Item = &'static str> {
    Damage::ALL.into_iter().map(Damage::name)
}

/// A length of four bytes, which fits on all supported platforms.
fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
