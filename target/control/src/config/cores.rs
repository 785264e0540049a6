//! How cores and nodes are written: `0,2-7`, `numa0,12`, `auto`.

use super::ValueError;
use stampede_steer::placement::{self, CoreItem, SHARDS_MAX};
use stampede_steer::topology::CpuList;
use std::fmt;
use std::str::FromStr;

/// Which cores get a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// By rule; see [`placement`].
    Auto,
    /// These, in this order: the first is shard 0.
    List(Vec<CoreItem>),
}

impl Cores {
    /// The list's items; none for `auto`.
    #[must_use]
    pub fn items(&self) -> &[CoreItem] {
        match self {
            Self::Auto => &[],
            Self::List(items) => items,
        }
    }
}

impl FromStr for Cores {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let items: Vec<CoreItem> =
            text.split(',').map(|part| item(text, part.trim())).collect::<Result<_, _>>()?;
        let mut cpus: Vec<u16> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let twice =
                |what: String| Err(ValueError::new(format!("{what} is listed twice"), "list each once"));
            let range = match *item {
                CoreItem::Cpu(cpu) => cpu..=cpu,
                CoreItem::Range(first, last) => first..=last,
                CoreItem::Node(_) if items[..at].contains(item) => return twice(item.to_string()),
                CoreItem::Node(_) => continue,
            };
            if cpus.len() + range.len() > SHARDS_MAX {
                let what = format!("`{text}` is too many cores");
                return Err(ValueError::new(what, format!("{SHARDS_MAX} at most")));
            }
            if let Some(cpu) = range.clone().find(|cpu| cpus.contains(cpu)) {
                return twice(format!("core {cpu}"));
            }
            cpus.extend(range);
        }
        Ok(Self::List(items))
    }
}

fn item(text: &str, part: &str) -> Result<CoreItem, ValueError> {
    let wrong = || {
        ValueError::new(
            format!("`{text}` is not a list of cores"),
            "write `auto`, or numbers, ranges and nodes as in 0,2-7 or numa0,12",
        )
    };
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    if let Some(node) = part.strip_prefix("numa") {
        return Ok(CoreItem::Node(number(node)?));
    }
    let Some((first, last)) = part.split_once('-') else { return Ok(CoreItem::Cpu(number(part)?)) };
    match (number(first)?, number(last)?) {
        (first, last) if first < last => Ok(CoreItem::Range(first, last)),
        (first, last) if first == last => Ok(CoreItem::Cpu(first)),
        _ => Err(ValueError::new(format!("the range `{part}` runs backwards"), "write the lower core first")),
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::List(items) = self else { return f.write_str("auto") };
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        f.write_str(&items.join(","))
    }
}

/// What NUMA nodes mean for cores and memory: `auto`, `off`, or nodes as in `0` or `0,2-3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numa(pub placement::Numa);

impl FromStr for Numa {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(match text {
            "auto" => placement::Numa::Auto,
            "off" => placement::Numa::Off,
            list => match CpuList::parse(list).filter(|nodes| !nodes.is_empty()) {
                Some(nodes) => placement::Numa::Nodes(nodes),
                None => {
                    let what = format!("`{text}` is not a rule for NUMA nodes");
                    return Err(ValueError::new(what, "write auto, off, or nodes as in 0 or 0,2-3"));
                }
            },
        }))
    }
}

impl fmt::Display for Numa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            placement::Numa::Auto => f.write_str("auto"),
            placement::Numa::Off => f.write_str("off"),
            placement::Numa::Nodes(nodes) => nodes.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_read_and_print() {
        use CoreItem::{Cpu, Node, Range};
        for (text, items) in [
            ("0", vec![Cpu(0)]),
            ("0,1", vec![Cpu(0), Cpu(1)]),
            ("2-5", vec![Range(2, 5)]),
            ("7,0-1", vec![Cpu(7), Range(0, 1)]),
            ("numa0", vec![Node(0)]),
            ("numa1,12, 14-15", vec![Node(1), Cpu(12), Range(14, 15)]),
            ("3-3", vec![Cpu(3)]),
        ] {
            let cores: Cores = text.parse().unwrap();
            assert_eq!(cores.items(), items);
            assert_eq!(cores.to_string().parse(), Ok(cores));
        }
        assert_eq!("auto".parse(), Ok(Cores::Auto));
        for (bad, why) in [
            ("", "not a list"),
            ("a", "not a list"),
            ("1-", "not a list"),
            ("numa", "not a list"),
            ("auto,3", "not a list"),
            ("3-1", "backwards"),
            ("1,1", "core 1 is listed twice"),
            ("0-3,2", "core 2 is listed twice"),
            ("numa0,numa0", "numa0 is listed twice"),
            ("0-999", "too many"),
            ("0-199,200-299", "too many"),
        ] {
            let error = bad.parse::<Cores>().unwrap_err();
            assert!(error.what.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn numa_reads_and_prints() {
        for text in ["auto", "off", "0", "0,2-3"] {
            assert_eq!(text.parse::<Numa>().unwrap().to_string(), text);
        }
        for bad in ["", "on", "1-", "numa0"] {
            assert!(bad.parse::<Numa>().unwrap_err().help.contains("nodes as in"), "{bad}");
        }
    }
}
