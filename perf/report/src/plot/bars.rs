//! Plots of bars: one figure of each of several things, side by side.

use std::path::Path;

use plotters::prelude::*;

use super::chart::{self, colour, font};
use crate::{ReportError, human};

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar<'a> {
    /// The group it stands in: a workload. Bars of one group follow each other.
    pub group: &'a str,
    /// Which of the group it is: a target. It decides the colour.
    pub name: &'a str,
    /// Its height.
    pub value: f64,
    /// The smallest and largest of the runs that `value` is the median of, if there were several.
    pub spread: Option<(f64, f64)>,
}

/// How much of a bar's place the bar fills.
const FILLED: f64 = 0.84;

/// Draws `bars` in the order given, with `unit` beside the axis. Groups are set apart by a gap and named below, names
/// stand in the legend, and each bar has its figure above it.
///
/// # Errors
/// [`ReportError::Empty`] if there is no bar or one is not a finite number; [`ReportError::File`] and
/// [`ReportError::Draw`].
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar<'_>]) -> Result<(), ReportError> {
    if bars.is_empty() || bars.iter().any(|bar| !bar.value.is_finite()) {
        return Err(ReportError::Empty {
            path: path.into(),
            what: "there is no bar, or one is not a number",
        });
    }
    let names = distinct(bars.iter().map(|bar| bar.name));
    let groups = distinct(bars.iter().map(|bar| bar.group));
    let (places, group_centres, width) = places(bars, &groups);
    let top = |bar: &Bar<'_>| bar.spread.map_or(bar.value, |spread| bar.value.max(spread.1));
    let high = chart::round_up(bars.iter().map(top).fold(0.0, f64::max) * 1.05);
    chart::write(path, |canvas| {
        let mut chart = chart::frame(canvas, title).build_cartesian_2d(0.0..width, 0.0..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(unit)
            .y_label_formatter(&|value| human::count(*value))
            .light_line_style(WHITE)
            .label_style(font(14))
            .draw()?;
        for (index, name) in names.iter().enumerate() {
            let own = || bars.iter().zip(&places).filter(|(bar, _)| bar.name == *name);
            let fill = colour(index).filled();
            chart
                .draw_series(
                    own().map(|(bar, x)| Rectangle::new([(*x, 0.0), (x + FILLED, bar.value)], fill)),
                )?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], fill));
            chart.draw_series(own().filter_map(|(bar, x)| {
                let (low, high) = bar.spread?;
                Some(PathElement::new([(x + FILLED / 2.0, low), (x + FILLED / 2.0, high)], BLACK))
            }))?;
            chart.draw_series(own().map(|(bar, x)| {
                let style = font(12).pos(centred());
                EmptyElement::at((x + FILLED / 2.0, top(bar)))
                    + Text::new(human::count(bar.value), (0, -16), style)
            }))?;
        }
        chart.draw_series(groups.iter().zip(&group_centres).map(|(group, centre)| {
            EmptyElement::at((*centre, 0.0))
                + Text::new((*group).to_owned(), (0, 10), font(14).pos(centred()))
        }))?;
        chart::legend(&mut chart, SeriesLabelPosition::UpperRight)
    })
}

/// Where each bar begins, where each group's middle is, and how wide the whole is, in bars.
fn places(bars: &[Bar<'_>], groups: &[&str]) -> (Vec<f64>, Vec<f64>, f64) {
    let mut starts = vec![0.0; bars.len()];
    let mut centres = Vec::with_capacity(groups.len());
    let mut x = 0.5;
    for group in groups {
        let begin = x;
        for (index, _) in bars.iter().enumerate().filter(|(_, bar)| bar.group == *group) {
            starts[index] = x;
            x += 1.0;
        }
        centres.push((begin + x - 1.0 + FILLED) / 2.0);
        x += 0.75;
    }
    // Some room at the right for the legend, which else covers the last group.
    (starts, centres, x + 1.25)
}

fn centred() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Top)
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_a_group_stand_together_in_any_order() {
        let bar = |group, name| Bar { group, name, value: 1.0, spread: None };
        let bars = [bar("read", "a"), bar("write", "a"), bar("read", "b"), bar("write", "b")];
        let (starts, centres, width) = places(&bars, &["read", "write"]);
        assert_eq!(starts, [0.5, 3.25, 1.5, 4.25]);
        assert!(starts.iter().all(|x| x + FILLED < width));
        assert!(centres[0] < 3.25 && centres[1] > 3.25);
    }
}
