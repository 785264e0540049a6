//! A model of a LUN.
