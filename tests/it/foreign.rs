//! Other people's producers.
