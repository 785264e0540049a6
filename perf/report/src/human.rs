//! Figures as people read them.

/// A count or a rate with at most four digits: `950`, `12.3 k`, `1.23 M`.
#[must_use]
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", " k", " M", " G", " T"])
}

/// Bytes in powers of 1,024: `512 B`, `4.00 KiB`, `1.50 GiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

/// Microseconds as a time: `87.1 us`, `1.20 ms`, `3.40 s`.
#[must_use]
pub fn micros(us: f64) -> String {
    scaled(us, 1000.0, &[" us", " ms", " s", " ks"])
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // Rounding must not give "1000 k": the step is taken where the text would show it.
    while value.abs() >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let whole = value.fract() == 0.0 && unit == 0;
    let digits = match value.abs() {
        _ if whole => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits_and_a_unit() {
        let counts = [(0.0, "0"), (950.0, "950"), (999.4, "999"), (999.6, "1.00 k"), (12_345.0, "12.3 k")];
        for (value, text) in counts {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(1_234_567.0), "1.23 M");
        assert_eq!(count(-2_500.0), "-2.50 k");
        assert_eq!((bytes(512.0), bytes(4096.0)), ("512 B".into(), "4.00 KiB".into()));
        assert_eq!(bytes(1.5 * 1024.0 * 1024.0 * 1024.0), "1.50 GiB");
        assert_eq!(
            (micros(87.13), micros(1200.0), micros(3.4e6)),
            ("87.1 us".into(), "1.20 ms".into(), "3.40 s".into())
        );
    }
}
