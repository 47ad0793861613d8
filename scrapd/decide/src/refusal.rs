//! Refusals: why a command has no effect. A refusal is a value; the log entry stands and changes nothing.

use scrap_schema::id::{Epoch, Name};
use scrap_schema::unit::Span;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a command has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(tag = "refused", rename_all = "kebab-case")]
pub enum Refusal {
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    NotFound { what: String, name: String },
    /// The name is taken.
    #[error("there is a {what} `{name}` already")]
    NameTaken { what: String, name: Name },
    /// Somebody changed it since it was read.
    #[error("{what} `{name}` was changed since you read it: it is at index {is}, you have {have}")]
    Changed { what: String, name: Name, is: u64, have: u64 },
    /// The same key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Another operation works on it.
    #[error("{what} `{name}` is busy: operation {operation} works on it")]
    Busy { what: String, name: Name, operation: String },
    /// The grain is in the trash, or is not.
    #[error("grain `{name}` is {is}")]
    WrongState { name: Name, is: String },
    /// It is still used.
    #[error("{what} `{name}` is still used by {by}")]
    InUse { what: String, name: String, by: String },
    /// The order was decided on an older state: the world has moved on. Never shown to people.
    #[error("stale: decided in epoch {offered}, epoch is {held}")]
    Stale { offered: Epoch, held: Epoch },
    /// The order does not fit the state any more. Never shown to people.
    #[error("out of date: {why}")]
    OutOfDate { why: String },
    /// It cannot be undone any more.
    #[error("operation {operation} cannot be cancelled: {why}")]
    NotCancellable { operation: String, why: String },
    /// A failover is not needed: the owner lives.
    #[error("the owner of grain `{name}`, node {owner}, is {is}")]
    OwnerAlive { name: Name, owner: String, is: String },
    /// The node lives, so nobody can say that it is off.
    #[error("node `{node}` is {is}")]
    NodeAlive { node: String, is: String },
    /// Only the owner could do it, and it is not online.
    #[error("node {owner}, where grain `{name}` lives, is not online")]
    OwnerGone { name: Name, owner: String },
    /// The node cannot take part in this.
    #[error("node `{node}` {why}")]
    NodeUnfit { node: String, why: String },
    /// A cluster without nodes cannot go on.
    #[error("node `{node}` is the last one of the cluster")]
    LastNode { node: String },
    /// The others cannot go on without the node.
    #[error("node `{node}` is needed: {why}")]
    NodeNeeded { node: String, why: String },
    /// The copy is too old.
    #[error("the freshest copy of grain `{name}` would lose {loss}, the limit is {limit}")]
    LossTooLarge { name: Name, loss: Span, limit: Span },
    /// The spec is contradictory.
    #[error("{why}")]
    Invalid { why: String },
    /// Another grain has the address.
    #[error("the address {address} belongs to {by}")]
    AddressTaken { address: String, by: String },
    /// A grain cannot have the address.
    #[error("network `{network}` cannot give the address {address}: {why}")]
    AddressUnfit { network: Name, address: String, why: String },
    /// Two networks want the same addresses.
    #[error("network `{network}` would share addresses with network `{other}`, which has {range}")]
    NetworksOverlap { network: Name, other: Name, range: String },
    /// Nothing is left to give.
    #[error("there is no free {what} left{of}")]
    Exhausted { what: String, of: String },
}

/// What a node is that was drained and not undrained since.
pub const IS_DRAINED: &str = "is drained already";

/// What keeps a node in use although no grain lives there.
pub const ORPHANS: &str = "orphans, data that only it has";

impl Refusal {
    /// "There is no grain `x`."
    pub(crate) fn no_grain(name: impl ToString) -> Self {
        Self::NotFound { what: "grain".to_owned(), name: name.to_string() }
    }

    /// "There is no node `x`."
    pub(crate) fn no_node(name: impl ToString) -> Self {
        Self::NotFound { what: "node".to_owned(), name: name.to_string() }
    }

    /// A node that is empty and stays so.
    pub(crate) fn drained(node: impl ToString) -> Self {
        Self::NodeUnfit { node: node.to_string(), why: IS_DRAINED.to_owned() }
    }

    /// The order does not fit the state any more.
    pub(crate) fn out_of_date(why: impl Into<String>) -> Self {
        Self::OutOfDate { why: why.into() }
    }
}
