//! Whether a breaker lets requests through, and what somebody wants of it.

/// Whether requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// They do.
    Closed = 0,
    /// A few do, to find out.
    HalfOpen = 1,
    /// They do not.
    Open = 2,
}

impl BreakerState {
    /// Its name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    pub(super) const fn of(number: u8) -> Self {
        match number {
            0 => Self::Closed,
            1 => Self::HalfOpen,
            _ => Self::Open,
        }
    }
}

/// What somebody wants of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Wish {
    /// That it decides for itself.
    Auto = 0,
    /// That it is open.
    Open = 1,
    /// That it is closed.
    Closed = 2,
}
