//! The gateway as its users meet it: the real binary, real sockets, a recording origin behind it.

mod support;
