//! The broker seam: RabbitMQ and an in-process broker behind one trait.
