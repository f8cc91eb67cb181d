//! `state`: which profiles there are, in which order they are tried, and how many machines of
//! each may still be installed.
//!
//! Responsible for the file's meaning and for rewriting it so that a changed count is the only
//! difference. Deciding when a count changes is [`crate::fleet`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many machines of a profile may still be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// As many as come (`"*"`).
    Unlimited,
    /// This many. Files may hold a negative number: it means none.
    Left(i64),
}

impl Count {
    /// Whether another machine may be installed.
    pub fn is_available(self) -> bool {
        match self {
            Count::Unlimited => true,
            Count::Left(left) => left > 0,
        }
    }

    /// The count after one machine was given a plan; `None` when there was none left.
    pub fn taken(self) -> Option<Count> {
        match self {
            Count::Unlimited => Some(Count::Unlimited),
            Count::Left(left) => (left > 0).then(|| Count::Left(left - 1)),
        }
    }

    /// The count after one was given back.
    #[must_use]
    pub fn given_back(self) -> Count {
        match self {
            Count::Unlimited => Count::Unlimited,
            Count::Left(left) => Count::Left(left.saturating_add(1)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::Unlimited => f.write_str("*"),
            Count::Left(left) => write!(f, "{left}"),
        }
    }
}
