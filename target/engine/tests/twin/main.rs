//! The engine on the seam's twin.

mod basics;
mod house;
mod life;
mod storm;
mod variation;
