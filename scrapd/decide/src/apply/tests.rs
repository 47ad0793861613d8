//! Table tests of `apply`.
