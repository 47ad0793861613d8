//! Table tests of `obey`.
