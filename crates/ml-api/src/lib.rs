//! The reference ML API: a demonstration model behind HTTP.
