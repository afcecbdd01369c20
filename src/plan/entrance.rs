//! What comes before HTTP on a listener: who passes connections on, TLS, and which version is spoken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::net::NetSet;
use crate::base::problem::{Place, Problems};
use crate::config::document::{Listener, Named, Protocol};
use crate::tls;

/// How connections come in by a listener.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Who says before everything else whose connection it is.
    pub balancers: Option<Arc<Balancers>>,
    /// What is spoken.
    pub offer: tls::Offer,
    /// Whether HTTP/2 is spoken without TLS too, by who knows.
    pub h2c: bool,
    /// What is spoken before HTTP, if it is.
    pub tls: Option<Arc<tls::Site>>,
}

/// Load balancers that speak the PROXY protocol.
#[derive(Debug)]
pub struct Balancers {
    /// Where they are.
    pub from: NetSet,
    /// Whether nobody else may connect.
    pub required: bool,
}

impl Entrance {
    /// Compiles what a listener says of it; `files` are those of the document.
    pub(super) fn compile(
        item: &Named<Listener>,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) -> Self {
        let speaks = |protocol| item.spec.protocols.contains(&protocol);
        let offer = tls::Offer {
            http1: speaks(Protocol::Http1),
            http2: speaks(Protocol::Http2),
        };
        let tls = item.spec.tls.as_ref().and_then(|spec| {
            let place = item.place.key("tls");
            tls::Site::compile(spec, offer, &place, files, problems)
        });
        let balancers = item.spec.proxy_protocol.as_ref().map(|written| Balancers {
            from: written.from.iter().copied().collect(),
            required: written.required,
        });
        Self {
            balancers: balancers.map(Arc::new),
            offer,
            h2c: speaks(Protocol::H2c),
            tls: tls.map(Arc::new),
        }
    }
}
