//! stampede-report.

#![forbid(unsafe_code)]
