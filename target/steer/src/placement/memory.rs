//! Whether memory is where it was meant to be.

use std::collections::BTreeMap;

/// Pages on other nodes, in hundredths of all, that are not worth a word.
const STRAYS_PERCENT: u64 = 1;

/// What to say about memory that was to be on a node, given how many of its pages were found on which; `None` when it
/// is there, or nothing was found.
#[must_use]
pub fn stray_memory(node: u16, pages: &BTreeMap<u16, u64>) -> Option<String> {
    let all: u64 = pages.values().sum();
    let elsewhere: u64 = pages.iter().filter(|(other, _)| **other != node).map(|(_, count)| count).sum();
    let percent = elsewhere.saturating_mul(100).checked_div(all)?;
    if percent < STRAYS_PERCENT {
        return None;
    }
    let others: Vec<String> = pages.keys().filter(|other| **other != node).map(ToString::to_string).collect();
    Some(format!(
        "{percent} % of its memory is on node {}, not on node {node}: that node has too little free memory, or the \
         cgroup (cpuset.mems) leaves it out. Give smaller buffers, or cores of another node",
        others.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strays_are_worth_a_word() {
        assert_eq!(stray_memory(0, &[].into()), None);
        assert_eq!(stray_memory(1, &[(1, 500)].into()), None);
        assert_eq!(stray_memory(1, &[(0, 4), (1, 496)].into()), None, "less than a hundredth");
        let text = stray_memory(1, &[(0, 100), (1, 300), (3, 100)].into()).unwrap();
        assert!(text.starts_with("40 % of its memory is on node 0 and 3, not on node 1"), "{text}");
        assert!(stray_memory(2, &[(0, 1)].into()).unwrap().starts_with("100 %"));
    }
}
