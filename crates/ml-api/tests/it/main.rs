//! The server over real sockets, and the model that it serves.

