//! The predictor: chunks become scored chunks through the ML API.
