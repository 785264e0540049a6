//! Plots: whole SVG files with their labels as text, well-formed whatever the names hold; nothing to draw is refused.

use std::path::Path;

use stampede_report::plot::{Bar, Series, bars, latency_cdf, throughput};
use stampede_report::{Latency, ReportError, Second};

/// Draws with `draw` and gives the SVG back, having checked that it is well-formed.
fn drawn(draw: impl FnOnce(&Path) -> Result<(), ReportError>) -> String {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("plot.svg");
    draw(&path).expect("drawn");
    let svg = std::fs::read_to_string(&path).expect("read");
    well_formed(&svg);
    svg
}

/// Tags are balanced, and text holds no bare angle bracket or ampersand.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().unwrap_or_default();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "tags nest");
        } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
            open.push(name);
        }
        for rest in text.split('&').skip(1) {
            assert!(
                rest.split_once(';').is_some_and(|(entity, _)| entity.len() <= 5),
                "a bare ampersand in {text:?}"
            );
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg"), "{open:?}");
}

fn latency(scale: u64) -> Latency {
    let mut latency = Latency::new();
    for step in 1..=20_000_u64 {
        // A body and a tail, as a target has them.
        let tail = if step % 400 == 0 { 40 * scale } else { 0 };
        latency.record_ns(scale * (50 + step % 37) + tail * (step / 400));
    }
    latency
}

#[test]
fn a_latency_plot_shows_the_nines() {
    let (one, two) = (latency(1_000).curve(), latency(3_000).curve());
    let series =
        [Series { name: "stampede", points: &one }, Series { name: "null & <target>", points: &two }];
    let svg = drawn(|path| latency_cdf(path, "4 KiB reads, depth 32", &series));
    for label in
        ["4 KiB reads, depth 32", "stampede", "null &amp; &lt;target&gt;", "90%", "99.9%", " us", " ms"]
    {
        assert!(svg.contains(label), "{label} is missing");
    }
    assert!(svg.matches("<polyline").count() >= 2);
}

#[test]
fn a_single_latency_can_be_drawn() {
    let mut latency = Latency::new();
    latency.record_ns(0);
    drawn(|path| latency_cdf(path, "one", &[Series { name: "one", points: &latency.curve() }]));
}

#[test]
fn a_throughput_plot_has_each_second() {
    let points: Vec<Second> =
        (1..=30).map(|second| Second { second, operations: 90_000 + second * 997, bytes: 0 }).collect();
    let svg = drawn(|path| throughput(path, "reads", &[Series { name: "stampede", points: &points }]));
    assert!(svg.matches("<circle").count() == 30 && svg.contains("120 k"), "{svg}");
    drawn(|path| throughput(path, "short", &[Series { name: "s", points: &points[..1] }]));
    let idle = [Second { second: 1, operations: 0, bytes: 0 }];
    drawn(|path| throughput(path, "idle", &[Series { name: "s", points: &idle }]));
}

#[test]
fn a_bar_plot_has_every_bar_and_its_figure() {
    let mut all = Vec::new();
    for (group, scale) in [("4k reads", 1.0), ("4k writes", 0.7), ("64k reads", 0.3)] {
        for (name, value) in [("stampede", 150e3), ("null target", 190e3), ("tgt rdwr", 31e3)] {
            let value = value * scale;
            all.push(Bar { group, name, value, spread: Some((value * 0.95, value * 1.04)) });
        }
    }
    let svg = drawn(|path| bars(path, "IOPS", "operations per second", &all));
    for label in ["4k reads", "64k reads", "tgt rdwr", "150 k", "operations per second"] {
        assert!(svg.contains(label), "{label} is missing");
    }
    assert!(svg.matches("<rect").count() >= 9 + 3);
    let flat = [Bar { group: "g", name: "n", value: 0.0, spread: None }];
    drawn(|path| bars(path, "nothing", "IOPS", &flat));
}

#[test]
fn nothing_to_draw_is_said() {
    let path = Path::new("/nonexistent-folder/plot.svg");
    let nothing = latency_cdf(path, "t", &[]).expect_err("refused");
    assert!(nothing.to_string().contains("nothing to plot in /nonexistent-folder/plot.svg"), "{nothing}");
    assert!(matches!(throughput(path, "t", &[]), Err(ReportError::Empty { .. })));
    assert!(matches!(bars(path, "t", "u", &[]), Err(ReportError::Empty { .. })));
    let bad = [Bar { group: "g", name: "n", value: f64::NAN, spread: None }];
    assert!(matches!(bars(path, "t", "u", &bad), Err(ReportError::Empty { .. })));
    let good = [Bar { value: 1.0, ..bad[0].clone() }];
    assert!(matches!(bars(path, "t", "u", &good), Err(ReportError::File { .. })));
}
