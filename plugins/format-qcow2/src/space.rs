//! What cannot be read from the image: where to look for free clusters, and which are not free yet.

use alloc::{collections::BTreeMap, vec::Vec};

use stampede_plugin::{PatchId, Token};

use crate::draft::Commit;

/// The token of what is not released before the image is opened again.
const NEVER: Token = Token::MAX;

/// An instance's memory of space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// The cluster from which on free ones are looked for.
    pub(crate) cursor: u64,
    /// The cluster from which on the file never had anything: it reads as zeros there.
    pub(crate) unused_from: u64,
    /// Clusters whose count is 0 but that must not be used before their plan's token is released.
    freed: Vec<(Token, Vec<(u64, u64)>)>,
    /// Tables that this instance made, and the patches that name them (which may not be durable yet).
    links: BTreeMap<u64, PatchId>,
    /// Clusters that have metadata: runs, sorted by their first.
    guard: Vec<(u64, u64)>,
}

impl Space {
    /// A memory of a file in which only what is behind so many clusters is free.
    pub(crate) fn behind(clusters: u64) -> Self {
        Self { cursor: clusters, unused_from: clusters, ..Self::default() }
    }

    /// Whether a cluster was freed, but not released. The cluster behind its run, if so.
    pub(crate) fn held(&self, cluster: u64) -> Option<u64> {
        let runs = self.freed.iter().flat_map(|(_, runs)| runs);
        runs.filter(|(start, count)| (*start..start + count).contains(&cluster))
            .map(|(start, count)| start + count)
            .next()
    }

    /// Whether a cluster has metadata.
    pub(crate) fn guarded(&self, cluster: u64) -> bool {
        let index = self.guard.partition_point(|(start, _)| *start <= cluster);
        index
            .checked_sub(1)
            .and_then(|index| self.guard.get(index))
            .is_some_and(|(start, count)| cluster < start + count)
    }

    /// The patch that names a table, if this instance made it.
    pub(crate) fn link(&self, table: u64) -> Option<PatchId> {
        self.links.get(&table).copied()
    }

    /// The clusters that have metadata.
    pub(crate) fn guard(&self) -> &[(u64, u64)] {
        &self.guard
    }

    /// More clusters that have metadata.
    pub(crate) fn protect(&mut self, runs: &[(u64, u64)]) {
        for &(start, count) in runs {
            let index = self.guard.partition_point(|(other, _)| *other < start);
            match index.checked_sub(1).and_then(|index| self.guard.get_mut(index)) {
                Some((before, length)) if *before + *length >= start => {
                    *length = (*length).max(start + count - *before);
                }
                _ => self.guard.insert(index, (start, count)),
            }
        }
    }

    /// Takes over what a plan changed.
    pub(crate) fn commit(&mut self, token: Token, commit: &Commit) {
        self.cursor = commit.cursor;
        self.unused_from = commit.unused_from;
        self.protect(&commit.protect);
        self.links.extend(commit.links.iter().copied());
        if !commit.retired.is_empty() {
            self.freed.push((NEVER, commit.retired.clone()));
        }
        if !commit.freed.is_empty() {
            self.freed.push((token, commit.freed.clone()));
        }
    }

    /// What a plan freed may be used again.
    pub(crate) fn release(&mut self, token: Token) {
        let cursor = &mut self.cursor;
        self.freed.retain(|(held, runs)| {
            if *held == token {
                *cursor = runs.iter().map(|(start, _)| *start).fold(*cursor, u64::min);
            }
            *held != token
        });
    }
}
