//! The scorer against a scripted API, over a real socket.
