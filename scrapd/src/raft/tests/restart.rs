//! What is on disk is what was: restarts, foreign and damaged files.
