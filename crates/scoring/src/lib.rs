//! The client of the ML API: protocol, classes of answers, bisection.
