//! Which shard gets a connection: the one on whose CPU its SYN was processed.
//!
//! ```text
//!   SYN ──► CPU n ──SHARD_OF_CPU[n]──► shard ──LISTENERS[shard]──► its listening socket
//!                        │ that CPU has none
//!                        └──► a shard by the hash of the addresses and ports
//! ```

/// The program's name: 15 bytes are all that the kernel shows.
pub const PROGRAM: &str = "stampede_by_cpu";
/// Map of listening sockets by shard number (BPF_MAP_TYPE_REUSEPORT_SOCKARRAY).
pub const LISTENERS: &str = "LISTENERS";
/// Array of [`entry`] by CPU number. A CPU beyond its end has no shard.
pub const SHARD_OF_CPU: &str = "SHARD_OF_CPU";
/// Array of one value: how many shards there are.
pub const SHARDS: &str = "SHARDS";
/// Array per CPU: connections counted by [`Choice`].
pub const CHOSEN: &str = "CHOSEN";
/// Entries of [`LISTENERS`] and [`SHARD_OF_CPU`] as they are declared; the loader makes both as large as is needed.
pub const ENTRIES: u32 = 256;

/// Why a connection goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Choice {
    /// Its SYN was processed on this shard's CPU.
    Cpu = 0,
    /// That CPU has no shard, so a hash chose one.
    Hash = 1,
    /// The chosen shard has no listener any more: the kernel chooses by its own hash.
    Kernel = 2,
}

impl Choice {
    /// How many there are: the length of [`CHOSEN`].
    pub const COUNT: u32 = 3;
}

/// The value of [`SHARD_OF_CPU`] for a CPU with this shard, or with none: zero, which a new array is filled with.
#[must_use]
pub const fn entry(shard: Option<u16>) -> u32 {
    match shard {
        Some(shard) => shard as u32 + 1,
        None => 0,
    }
}

/// Chooses a shard. `entry` is the CPU's value in [`SHARD_OF_CPU`], if it has one; `hash` is the kernel's hash of the
/// connection's addresses and ports; `shards` is how many there are.
#[must_use]
#[inline(always)]
pub const fn choose(entry: Option<u32>, hash: u32, shards: u32) -> (u32, Choice) {
    match entry {
        Some(entry) if entry != 0 => (entry - 1, Choice::Cpu),
        // The hash is uniform over 32 bits, so its upper part is uniform over the shards.
        _ => (((hash as u64 * shards as u64) >> 32) as u32, Choice::Hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_with_a_shard_gives_to_it() {
        for shard in [0, 1, 255, u16::MAX] {
            let chosen = choose(Some(entry(Some(shard))), 0xdead_beef, 1 << 16);
            assert_eq!(chosen, (u32::from(shard), Choice::Cpu));
        }
    }

    #[test]
    fn other_cpus_spread_over_all_shards() {
        for shards in [1u32, 2, 3, 7, 256] {
            let mut hits = [0u32; 256];
            for step in 0..65_536u32 {
                for no_shard in [None, Some(entry(None))] {
                    let (shard, choice) = choose(no_shard, step << 16 | step, shards);
                    assert_eq!(choice, Choice::Hash);
                    hits[shard as usize] += 1;
                }
            }
            let (own, beyond) = hits.split_at(shards as usize);
            assert!(own.iter().all(|count| count.abs_diff(2 * 65_536 / shards) <= 2), "{own:?}");
            assert!(beyond.iter().all(|count| *count == 0));
        }
    }
}
