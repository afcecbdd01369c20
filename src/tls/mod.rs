//! TLS: certificates and who gets which by name, how clients prove who they are, and how upstreams do.

mod acceptor;
mod certificate;
mod client;
mod failure;
mod hello;
mod responder;
mod site;
mod spec;
mod staple;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, Refused, Validity, read_authorities};
pub use client::{ClientCertificate, Policy, Secured};
pub use failure::Failure;
pub use hello::{HELLO_BYTES_MAX, Hello, UNRECOGNIZED_NAME, read_hello};
pub use responder::{Responder, Unanswered};
pub use site::{Context, Offer, Site, listed};
pub use spec::{CertificateSpec, ClientAuthMode, ClientAuthSpec, Spec, UnknownName, Version};
pub use staple::{Answer, Staple, Unusable};
