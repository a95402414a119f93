//! Where the work on several messages comes from.

use crate::TraceContext;

/// The contexts of messages that are worked on together. The work continues the trace of the first message whose trace is recorded,
/// and is linked to all of them: so it is recorded if any of them is, and each trace leads to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    parent: Option<String>,
    links: Option<String>,
}

impl Origins {
    /// The origins of work on messages with these contexts.
    pub fn of(contexts: impl IntoIterator<Item = TraceContext>) -> Self {
        let mut parent: Option<TraceContext> = None;
        let mut links: Vec<String> = Vec::new();
        for context in contexts {
            if parent.is_none_or(|parent| !parent.is_sampled && context.is_sampled) {
                parent = Some(context);
            }
            links.push(context.to_string());
        }
        Self { parent: parent.map(|parent| parent.to_string()), links: parent.map(|_| links.join(",")) }
    }

    /// For the field [`PARENT`](crate::fields::PARENT).
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// For the field [`LINKS`](crate::fields::LINKS).
    pub fn links(&self) -> Option<&str> {
        self.links.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_trace_goes_on_before_one_that_is_not() {
        let context = |span_id, is_sampled| TraceContext { trace_id: 1, span_id, is_sampled };
        assert_eq!(Origins::of([]), Origins::default());
        for (contexts, expected) in [
            (vec![context(1, true), context(2, true)], context(1, true)),
            (vec![context(1, false), context(2, true), context(3, true)], context(2, true)),
            (vec![context(1, false), context(2, false)], context(1, false)),
        ] {
            let origins = Origins::of(contexts.clone());
            assert_eq!(origins.parent(), Some(&*expected.to_string()));
            assert_eq!(origins.links().unwrap().split(',').count(), contexts.len());
        }
    }
}
