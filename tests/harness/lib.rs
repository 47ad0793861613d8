//! What the suites share. Nothing here is part of the product.

pub mod cluster;
pub mod sim;
