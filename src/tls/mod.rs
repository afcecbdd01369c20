//! TLS: certificates and who gets which by name, how clients prove who they are, and how upstreams do.

mod acceptor;
mod certificate;
mod client;
mod hello;
mod site;
mod spec;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, Refused, Validity, read_authorities};
pub use client::{ClientCertificate, Policy, Secured};
pub use hello::{HELLO_BYTES_MAX, Hello, UNRECOGNIZED_NAME, read_hello};
pub use site::{Context, Offer, Site, listed};
pub use spec::{CertificateSpec, ClientAuthMode, ClientAuthSpec, Spec, UnknownName, Version};
