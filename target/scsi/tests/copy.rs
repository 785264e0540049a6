//! Third-party copy: lists, what copiers ask for, tokens, and what is told about copies. The units' media are vectors.

mod common;
#[path = "copy/desk.rs"]
mod desk;
#[path = "copy/extended.rs"]
mod extended;
#[path = "copy/pages.rs"]
mod pages;
#[path = "copy/tokens.rs"]
mod tokens;
