//! Which span each thread is in.

use std::cell::RefCell;

use crate::TraceContext;

thread_local! {
    /// The spans that this thread has entered, the innermost last, each with its key.
    static ENTERED: RefCell<Vec<(u64, TraceContext)>> = const { RefCell::new(Vec::new()) };
}

/// The context of the span that this thread is in; none while nothing is traced.
pub fn current() -> Option<TraceContext> {
    ENTERED.try_with(|entered| entered.borrow().last().map(|(_, context)| *context)).ok().flatten()
}

/// Notes that this thread enters a span.
pub fn enter(key: u64, context: TraceContext) {
    // The thread may be ending.
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().push((key, context)));
}

/// Notes that this thread leaves a span. Spans need not be left in order.
pub fn exit(key: u64) {
    let _ = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        if let Some(at) = entered.iter().rposition(|(other, _)| *other == key) {
            entered.remove(at);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_span_is_the_current_one() {
        let context = |span_id| TraceContext { trace_id: 1, span_id, is_sampled: true };
        assert_eq!(current(), None);
        enter(1, context(10));
        enter(2, context(20));
        enter(1, context(10));
        exit(2);
        exit(7);
        assert_eq!(current(), Some(context(10)));
        exit(1);
        assert_eq!(current(), Some(context(10)));
        exit(1);
        assert_eq!(current(), None);
    }
}
