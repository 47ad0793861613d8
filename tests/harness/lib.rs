//! What the suites share. Nothing here is part of the product.

#[cfg(target_os = "linux")]
pub mod chaos;
pub mod cluster;
#[cfg(target_os = "linux")]
pub mod platform;
pub mod sim;
