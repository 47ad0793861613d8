//! Random worlds and scripts.
