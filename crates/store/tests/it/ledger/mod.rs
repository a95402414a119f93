//! Runs: how they begin, who loads them, how they end.

mod copies;
mod leases;
mod live;
mod runs;
mod stop_orders;
