//! What the plots share: the canvas, colours, labels and the way to a file.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use crate::ReportError;

/// Width and height of a plot, SVG user units.
pub(super) const SIZE: (u32, u32) = (960, 540);
/// The largest number of series that stay apart by colour.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(148, 103, 189),
];

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Axes on a canvas.
pub(super) type Chart<'a, 'svg, X, Y> = ChartContext<'a, SVGBackend<'svg>, Cartesian2d<X, Y>>;
/// The drawing library's errors, which say nothing that a type could use.
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The colour of series `index`; they repeat after eight.
pub(super) fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Text of `size` units in whatever the viewer takes for sans-serif.
pub(super) fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into()
}

/// Where a chart stands on its canvas: under its title, with room for the labels of its axes.
pub(super) fn frame<'a, 'svg>(
    canvas: &'a Canvas<'svg>,
    title: &str,
) -> ChartBuilder<'a, 'a, SVGBackend<'svg>> {
    let mut frame = ChartBuilder::on(canvas);
    frame.caption(title, font(22)).margin(16).x_label_area_size(44).y_label_area_size(84);
    frame
}

/// Draws `points` as the line of series `index`, which the legend calls `name`.
pub(super) fn line<'a, X, Y>(
    chart: &mut Chart<'a, '_, X, Y>,
    index: usize,
    name: &str,
    points: impl IntoIterator<Item = (X::ValueType, Y::ValueType)>,
) -> Drawn
where
    X: Ranged,
    Y: Ranged,
    X::ValueType: Clone + 'static,
    Y::ValueType: Clone + 'static,
{
    let style = colour(index).stroke_width(2);
    chart
        .draw_series(LineSeries::new(points, style))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    Ok(())
}

/// Draws the legend of the series that have a label.
pub(super) fn legend<'a, 'svg: 'a, X, Y>(
    chart: &mut Chart<'a, 'svg, X, Y>,
    place: SeriesLabelPosition,
) -> Drawn
where
    X: Ranged,
    Y: Ranged,
{
    chart.configure_series_labels().position(place).border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}

/// Draws with `body` on a white canvas and writes the result to `path`: all of it or nothing.
pub(super) fn write(path: &Path, body: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<(), ReportError> {
    save(path, draw(path, body)?)
}

/// Writes a drawing.
pub(super) fn save(path: &Path, svg: String) -> Result<(), ReportError> {
    std::fs::write(path, svg).map_err(|error| ReportError::writing(path, error))
}

/// Draws with `body` on a white canvas; `path` is for errors alone.
pub(super) fn draw(path: &Path, body: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<String, ReportError> {
    let mut svg = String::new();
    let drawn = {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = canvas.fill(&WHITE).map_err(Into::into).and_then(|()| body(&canvas));
        drawn.and_then(|()| canvas.present().map_err(Into::into))
    };
    drawn.map_err(|error| ReportError::Draw { path: path.into(), what: error.to_string() })?;
    Ok(svg)
}

/// The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15 .. at or above `value`, so that an axis ends where people expect.
pub(super) fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|end| *end >= value)
        .unwrap_or(value)
}
