//! The agent of this node.

/// A handle to the agent.
#[derive(Debug, Clone, Default)]
pub struct Handle {}
