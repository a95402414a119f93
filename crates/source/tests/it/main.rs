//! Sources on real sockets.
