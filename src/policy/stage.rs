//! The order in which policies have their turn; the order in the file never matters.

/// When a policy's turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What pages may do: before the refusals, which they have to be able to read.
    Cors,
    /// The cheapest refusals: they protect everything after them.
    Shield,
    /// Who is calling.
    Authenticate,
    /// What they may do.
    Authorize,
    /// How much of it.
    Limit,
    /// Whether what they send is as it should be: this may cost a body.
    Check,
    /// Where it goes.
    Choose,
    /// Just before the request is sent: only what is allowed through gets worked on.
    Act,
    /// The upstream's answer, on its way to the client.
    Shape,
    /// The end: what is written down of it.
    Record,
}
