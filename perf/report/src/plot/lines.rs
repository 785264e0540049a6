//! Plots of lines: latency distributions and what was done over time.

use std::path::Path;

use plotters::prelude::*;

use super::chart::{self, colour, font};
use crate::{CurvePoint, ReportError, Second, human};

/// A named line.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a, Point> {
    /// What the legend says.
    pub name: &'a str,
    /// Its points, from left to right.
    pub points: &'a [Point],
}

/// Where the quantile axis of a latency plot ends: 99.9999%, six nines.
const NINES_MAX: f64 = 6.0;
/// How far above the last quantile that is known the longest latency of all is drawn, nines.
const LONGEST_ABOVE: f64 = 0.3;

/// Draws latency distributions: latency to the right on a logarithmic axis, and upwards the share of operations that
/// took at most that long, on an axis on which each further nine (90%, 99%, 99.9% ..) is as high as the last, so that
/// the tail can be seen.
///
/// # Errors
/// [`ReportError::Empty`] if no series has a point; [`ReportError::File`] and [`ReportError::Draw`].
pub fn latency_cdf(path: &Path, title: &str, series: &[Series<'_, CurvePoint>]) -> Result<(), ReportError> {
    chart::save(path, latency_svg(path, title, series)?)
}

/// The drawing of [`latency_cdf`]; `path` is for errors alone.
pub(crate) fn latency_svg(
    path: &Path,
    title: &str,
    series: &[Series<'_, CurvePoint>],
) -> Result<String, ReportError> {
    let all = || series.iter().flat_map(|one| one.points);
    if all().next().is_none() {
        return Err(ReportError::Empty { path: path.into(), what: "no latency was recorded" });
    }
    // A logarithmic axis has no zero.
    let low = all().map(|point| point.us).fold(f64::INFINITY, f64::min).max(0.1) * 0.9;
    let high = all().map(|point| point.us).fold(0.0, f64::max).max(low) * 1.1;
    let top = series.iter().flat_map(|one| heights(one.points)).fold(1.0, f64::max).ceil();
    chart::draw(path, |canvas| {
        let mut chart = chart::frame(canvas, title).build_cartesian_2d((low..high).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("latency")
            .y_desc("share of operations")
            .x_label_formatter(&|us| human::micros(*us))
            .y_labels(top as usize + 1)
            .y_label_formatter(&|nines| percent(*nines))
            .light_line_style(WHITE)
            .label_style(font(14))
            .draw()?;
        for (index, one) in series.iter().enumerate() {
            let line = one.points.iter().map(|point| point.us.max(low)).zip(heights(one.points));
            chart::line(&mut chart, index, one.name, line)?;
        }
        chart::legend(&mut chart, SeriesLabelPosition::LowerRight)
    })
}

/// Draws operations per second over the window's seconds.
///
/// # Errors
/// [`ReportError::Empty`] if no series has a point; [`ReportError::File`] and [`ReportError::Draw`].
pub fn throughput(path: &Path, title: &str, series: &[Series<'_, Second>]) -> Result<(), ReportError> {
    let all = || series.iter().flat_map(|one| one.points);
    let Some(last) = all().map(|point| point.second).max() else {
        return Err(ReportError::Empty { path: path.into(), what: "the window was shorter than a second" });
    };
    let first = all().map(|point| point.second).min().unwrap_or(last);
    let high = chart::round_up(all().map(|point| point.operations).max().unwrap_or(0) as f64);
    // One second alone still wants an axis of some length.
    let span = first as f64..(last.max(first + 1)) as f64;
    chart::write(path, |canvas| {
        let mut chart = chart::frame(canvas, title).build_cartesian_2d(span, 0.0..high)?;
        chart
            .configure_mesh()
            .x_desc("second")
            .y_desc("operations per second")
            .x_label_formatter(&|second| format!("{second:.0}"))
            .y_label_formatter(&|rate| human::count(*rate))
            .light_line_style(WHITE)
            .label_style(font(14))
            .draw()?;
        for (index, one) in series.iter().enumerate() {
            let points = || one.points.iter().map(|point| (point.second as f64, point.operations as f64));
            chart.draw_series(points().map(|at| Circle::new(at, 3, colour(index).filled())))?;
            chart::line(&mut chart, index, one.name, points())?;
        }
        chart::legend(&mut chart, SeriesLabelPosition::LowerRight)
    })
}

/// Draws what was moved each second, bytes; `path` is for errors alone.
pub(crate) fn bytes_svg(path: &Path, title: &str, seconds: &[Second]) -> Result<String, ReportError> {
    let points = seconds.iter().map(|second| (second.second as f64 - 0.5, second.bytes as f64)).collect();
    let axes = Axes { x: "seconds", y: "bytes per second", high: None, label: |rate| human::bytes(*rate) };
    xy(path, title, &axes, &[("bytes", points)])
}

/// Draws which share of machines needed at most how long; `path` is for errors alone.
pub(crate) fn shares_svg(
    path: &Path,
    title: &str,
    machines: usize,
    series: Vec<(&str, Vec<f64>)>,
) -> Result<String, ReportError> {
    let line = |(name, mut seconds): (_, Vec<f64>)| {
        seconds.sort_by(f64::total_cmp);
        let mut points = vec![(0.0, 0.0)];
        for (index, second) in seconds.into_iter().enumerate() {
            let share = |count: usize| 100.0 * count as f64 / machines.max(1) as f64;
            points.extend([(second, share(index)), (second, share(index + 1))]);
        }
        (name, points)
    };
    let label = |share: &f64| format!("{share:.0}%");
    let axes = Axes { x: "seconds from switching on", y: "share of machines", high: Some(100.0), label };
    let series: Vec<(&str, Vec<(f64, f64)>)> = series.into_iter().map(line).collect();
    xy(path, title, &axes, &series)
}

/// What stands beside the axes of a plot that begins at zero.
struct Axes {
    x: &'static str,
    y: &'static str,
    /// The upper end, or as high as the points go.
    high: Option<f64>,
    label: fn(&f64) -> String,
}

fn xy(
    path: &Path,
    title: &str,
    axes: &Axes,
    series: &[(&str, Vec<(f64, f64)>)],
) -> Result<String, ReportError> {
    let all = || series.iter().flat_map(|(_, points)| points);
    if all().next().is_none() {
        return Err(ReportError::Empty { path: path.into(), what: "nothing was measured" });
    }
    let end = chart::round_up(all().map(|(x, _)| *x).fold(0.0, f64::max));
    let high = axes.high.unwrap_or_else(|| chart::round_up(all().map(|(_, y)| *y).fold(0.0, f64::max)));
    chart::draw(path, |canvas| {
        let mut chart = chart::frame(canvas, title).build_cartesian_2d(0.0..end, 0.0..high)?;
        chart
            .configure_mesh()
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_label_formatter(&|seconds| seconds.to_string())
            .y_label_formatter(&axes.label)
            .light_line_style(WHITE)
            .label_style(font(14))
            .draw()?;
        for (index, (name, points)) in series.iter().enumerate() {
            chart::line(&mut chart, index, name, points.iter().copied())?;
        }
        chart::legend(&mut chart, SeriesLabelPosition::LowerRight)
    })
}

/// The points' heights on the quantile axis: 0% at 0, 90% at 1, 99% at 2 and so on. 100% would lie infinitely high; it
/// is drawn a little above the last quantile that the series knows.
fn heights(points: &[CurvePoint]) -> impl Iterator<Item = f64> {
    let known =
        points.iter().map(|point| point.quantile).filter(|quantile| *quantile < 1.0).fold(0.0, f64::max);
    let top = (nines(known) + LONGEST_ABOVE).min(NINES_MAX);
    points.iter().map(move |point| if point.quantile < 1.0 { nines(point.quantile) } else { top })
}

fn nines(quantile: f64) -> f64 {
    (-(1.0 - quantile).log10()).clamp(0.0, NINES_MAX)
}

fn percent(nines: f64) -> String {
    let decimals = (nines.round() as usize).saturating_sub(2);
    format!("{:.decimals$}%", 100.0 * (1.0 - 10_f64.powf(-nines.round())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_is_one_step() {
        let points = [0.0, 0.9, 0.999, 1.0].map(|quantile| CurvePoint { quantile, us: 1.0 });
        let wanted = [0.0, 1.0, 3.0, 3.0 + LONGEST_ABOVE];
        for (height, wanted) in heights(&points).zip(wanted) {
            assert!((height - wanted).abs() < 1e-9, "{height} for {wanted}");
        }
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(percent), ["0%", "90%", "99%", "99.9%", "99.99%"]);
    }
}
