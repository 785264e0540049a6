//! Saved mode pages as bytes: `page code | subpage code | length | the page's bytes behind its header`, each page that
//! differs from its defaults.

use super::pages::{self, PageBytes};
use super::state::ModeState;
use crate::DeviceConfig;

/// One page: page code, subpage code, the bytes behind its header.
type SavedPage = (u8, u8, PageBytes);

/// The saved mode pages of a unit, as they were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SavedPages(Vec<SavedPage>);

impl SavedPages {
    /// The pages of `state` that are not at their defaults.
    pub(crate) fn of(config: &DeviceConfig, state: &ModeState) -> Self {
        let defaults = ModeState::new(config);
        let changed = pages::of(config).filter(|page| page.current(state) != page.current(&defaults));
        let body = |page: &pages::Page| PageBytes::from_slice(&page.current(state)[page.header()..]);
        Self(changed.map(|page| (page.code, page.subpage, body(page))).collect())
    }

    /// The mode parameters of a unit with these pages. What it has no page for any more, or may not change any more,
    /// is left out.
    pub(crate) fn state(&self, config: &DeviceConfig) -> ModeState {
        let mut state = ModeState::new(config);
        for (code, subpage, body) in &self.0 {
            let Some(page) = pages::find(config, *code, *subpage) else { continue };
            let (mut values, mask, header) = (page.current(&state), page.mask(config), page.header());
            for ((value, mask), saved) in values[header..].iter_mut().zip(&mask[header..]).zip(body) {
                *value = *value & !mask | saved & mask;
            }
            (page.apply)(&mut state, &values);
        }
        state
    }

    /// As bytes for a store.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, subpage, body) in &self.0 {
            bytes.extend_from_slice(&[*code, *subpage, body.len() as u8]);
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) gave.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut pages = Vec::new();
        while let Some((&[code, subpage, length], rest)) = bytes.split_first_chunk::<3>() {
            let (body, rest) = rest.split_at_checked(usize::from(length))?;
            pages.push((code, subpage, PageBytes::from_slice(body)));
            bytes = rest;
        }
        bytes.is_empty().then_some(Self(pages))
    }
}
