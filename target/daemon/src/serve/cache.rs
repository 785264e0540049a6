//! The golden cache's memory, and which goldens are cached.

use super::shards::Blueprint;
use crate::Failure;
use anyhow::Context;
use stampede_control::config::Config;
use stampede_control::goldens::{Caching, RecordingFiles};
use stampede_engine::messages::GoldenId;
use stampede_engine::setup::CacheSetup;
use stampede_image::cache::Published;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all shards have of it together.
pub(super) struct Cached {
    /// None when no golden needs one.
    pub(super) cache: Option<CacheSetup>,
    /// Goldens on devices: those in memory are as near as the cache.
    pub(super) published: BTreeMap<GoldenId, Arc<Published>>,
}

impl Cached {
    pub(super) fn new(blueprint: &Blueprint<'_>, shards: u16) -> Result<Self, Failure> {
        let mut published = BTreeMap::new();
        let bytes = blueprint.config.cache.0;
        for (golden, at) in blueprint.plan.goldens.iter().filter(|_| bytes > 0) {
            let traits = blueprint.images.files().get(*at).map(|file| file.traits());
            let len_bytes = traits.filter(|traits| !traits.in_memory).map(|traits| traits.len_bytes);
            published.extend(len_bytes.and_then(CacheSetup::publish).map(|published| (*golden, published)));
        }
        if published.is_empty() {
            return Ok(Self { cache: None, published });
        }
        let cache = CacheSetup::new(bytes, shards)
            .context("cannot reserve memory for goldens: give another --cache")
            .map_err(Failure::Runtime)?;
        cache.prefer_huge_pages();
        Ok(Self { cache: Some(cache), published })
    }

    /// What the control thread is to know of it.
    pub(super) fn caching(&self, config: &Config) -> Caching {
        Caching {
            goldens: self.published.keys().copied().collect(),
            bytes: config.cache.0,
            recordings: RecordingFiles::new(config.state_dir.as_deref()),
            warm: config.warm,
        }
    }
}
