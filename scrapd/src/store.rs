//! The databases: every SQL statement is in this room; rows in, values out.
//!
//! Knows nothing of elections, of HTTP, or of what a row means.

mod error;

pub use error::StoreError;
