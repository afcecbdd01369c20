//! What knows nothing of gateways: time, units, networks, canonical names, and the mistakes of a config's author.

pub mod canon;
pub mod clock;
pub mod control;
pub mod digest;
pub mod forwarded;
pub mod key;
pub mod list;
pub mod net;
pub mod problem;
pub mod proxy_protocol;
pub mod task;
pub mod units;
pub mod websocket;
