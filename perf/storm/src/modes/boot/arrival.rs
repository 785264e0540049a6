//! When machines are switched on.

use crate::cli::number;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Exp};
use std::fmt;
use std::str::FromStr;

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Arrival {
    /// All at once.
    All,
    /// One after the other, evenly over so many seconds.
    Ramp { seconds: f64 },
    /// At random times, on average so many each second.
    Poisson { rate: f64 },
    /// So many at once, then nobody for so many seconds.
    Groups { size: u32, gap: f64 },
}

impl Arrival {
    /// When each of `machines` is switched on, nanoseconds.
    pub(crate) fn times_ns(self, machines: u32, seed: u64) -> Vec<u64> {
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let each = 0..machines;
        match self {
            Self::All => vec![0; machines as usize],
            Self::Ramp { seconds } => {
                each.map(|number| nanoseconds(seconds * f64::from(number) / f64::from(machines))).collect()
            }
            Self::Poisson { rate } => {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut now = 0.0;
                // The rate is above zero.
                let gaps = Exp::new(rate).ok();
                each.map(|_| {
                    now += gaps.map_or(0.0, |gaps| gaps.sample(&mut rng));
                    nanoseconds(now)
                })
                .collect()
            }
            Self::Groups { size, gap } => {
                each.map(|number| nanoseconds(gap * f64::from(number / size))).collect()
            }
        }
    }
}

impl FromStr for Arrival {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write all, ramp:SECONDS, poisson:PER-SECOND or groups:SIZE:SECONDS";
        const SECONDS_MAX: f64 = 86_400.0;
        let mut parts = text.split(':');
        let arrival = match (parts.next(), parts.next(), parts.next()) {
            (Some("all"), None, _) => Self::All,
            (Some("ramp"), Some(seconds), None) => Self::Ramp { seconds: number(seconds, 0.0, SECONDS_MAX)? },
            (Some("poisson"), Some(rate), None) => Self::Poisson { rate: number(rate, 0.001, 1e6)? },
            (Some("groups"), Some(size), Some(gap)) => Self::Groups {
                size: size.parse().ok().filter(|size| *size > 0).ok_or(FORM)?,
                gap: number(gap, 0.0, SECONDS_MAX)?,
            },
            _ => return Err(FORM.to_owned()),
        };
        if parts.next().is_some() { Err(FORM.to_owned()) } else { Ok(arrival) }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Ramp { seconds } => write!(f, "ramp:{seconds}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Groups { size, gap } => write!(f, "groups:{size}:{gap}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_comes_as_it_says() {
        let times = |text: &str| text.parse::<Arrival>().unwrap().times_ns(5, 1);
        const S: u64 = 1_000_000_000;
        assert_eq!(times("all"), [0; 5]);
        assert_eq!(times("ramp:10"), [0, 2 * S, 4 * S, 6 * S, 8 * S]);
        assert_eq!(times("groups:2:3"), [0, 0, 3 * S, 3 * S, 6 * S]);
        let poisson = "poisson:10".parse::<Arrival>().unwrap().times_ns(10_000, 1);
        let seconds = poisson[9999] as f64 / 1e9;
        assert!((950.0..1050.0).contains(&seconds) && poisson.is_sorted(), "{seconds}");
        for text in ["all:1", "ramp", "ramp:x", "poisson:0", "groups:0:1", "groups:2", "groups:1:1:1", ""] {
            assert!(text.parse::<Arrival>().is_err(), "{text}");
        }
        for text in ["all", "ramp:10", "poisson:2.5", "groups:50:0.5"] {
            assert_eq!(text.parse::<Arrival>().unwrap().to_string(), text);
        }
    }
}
