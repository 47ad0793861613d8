//! What only containers show.
