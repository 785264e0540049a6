//! A shard's memory on its NUMA node: taken from there, and looked at.

use stampede_control::status::HomeStatus;
use stampede_engine::messages::ShardId;
use stampede_ring::numa;
use stampede_ring::uring::UringRing;
use stampede_steer::placement::{ShardPlace, stray_memory};

/// Has the calling shard's thread take its memory from the node that its place says. Its ring, its registered
/// buffers and what it touches first come from there. What cannot be is noted: the shard runs all the same.
pub(super) fn take(place: &ShardPlace) -> HomeStatus {
    let mut home = HomeStatus { node: place.node, memory_node: place.memory_node, ..HomeStatus::default() };
    if let Some(node) = place.memory_node
        && let Err(error) = numa::prefer_node(node)
    {
        home.note = format!(
            "its memory is where the process's policy puts it, not on node {node} by intention: set_mempolicy: {error}"
        );
    }
    home
}

/// Looks where the memory is, once it is set up.
pub(super) fn look(home: &mut HomeStatus, shard: ShardId, ring: &UringRing) {
    match ring.pages() {
        Ok(pages) => {
            home.pages = pages.by_node;
            home.untouched_pages = pages.untouched;
            let stray = home.memory_node.and_then(|node| stray_memory(node, &home.pages));
            if home.note.is_empty() {
                home.note = stray.unwrap_or_default();
            }
        }
        // Without the answer there is nothing to compare, and nothing that an operator could do.
        Err(error) => tracing::debug!(shard = shard.0, "cannot ask where memory is: move_pages: {error}"),
    }
    if !home.note.is_empty() {
        tracing::warn!(shard = shard.0, "{}", home.note);
    }
}
