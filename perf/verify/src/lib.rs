//! stampede-verify.

#![forbid(unsafe_code)]
