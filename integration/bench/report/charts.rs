// SPDX-License-Identifier: Apache-2.0
//! The charts, as SVG: bars from zero or on a logarithmic axis, and lines.

use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::Report;
use crate::overlay;
use crate::subjects::{Kind, Setting};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A file of a chart and what it shows.
#[derive(Clone, Debug)]
pub struct Chart {
    pub file: &'static str,
    pub title: String,
}

/// Bars in one chart.
struct Bars {
    file: &'static str,
    title: String,
    unit: &'static str,
    /// Equal lengths for equal ratios.
    logarithmic: bool,
    bars: Vec<(String, f64, RGBColor)>,
}

/// A chart of the overlay: file, title, unit, and what of a row it shows.
type OverlayBars = (&'static str, &'static str, &'static str, fn(&overlay::Row) -> f64);

const MANX: RGBColor = RGBColor(20, 120, 160);
const OTHER: RGBColor = RGBColor(150, 150, 150);
const FLOOR: RGBColor = RGBColor(90, 160, 90);
const WRONG: RGBColor = RGBColor(200, 90, 60);
const PALETTE: [RGBColor; 5] = [MANX, WRONG, OTHER, FLOOR, RGBColor(120, 90, 170)];

const WIDTH: u32 = 900;
const LABELS: i32 = 340;
const ROW: i32 = 24;
const TOP: i32 = 46;
const FONT: &str = "sans-serif";

/// Draws what there is to draw.
pub fn draw(report: &Report, directory: &Path) -> Vec<Chart> {
    let mut drawn = Vec::new();
    for bars in bars(report) {
        if !bars.bars.is_empty() {
            bar_chart(&directory.join(bars.file), &bars).expect("draw a chart");
            drawn.push(Chart { file: bars.file, title: bars.title });
        }
    }
    let lines: [(&'static str, &str, &str, &str, Series); 2] = [
        (
            "attach-crowded.svg",
            "ADD p50 in ms, by pods on the node",
            "pods on the node",
            "ms",
            crowded(report),
        ),
        ("scale.svg", "manx apply: processor time in ms, by peers", "peers", "ms", scale(report)),
    ];
    for (file, title, x, y, series) in lines {
        if series.iter().any(|(_, points)| points.len() > 1) {
            line_chart(&directory.join(file), title, [x, y], &series).expect("draw a chart");
            drawn.push(Chart { file, title: title.into() });
        }
    }
    drawn
}

fn bars(report: &Report) -> Vec<Bars> {
    let attach = |at_once: usize, value: fn(&crate::attach::Row) -> f64| {
        let rows = report.attach.iter().filter(|row| row.at_once == at_once && !row.crowded);
        rows.map(|row| {
            let label = row.subject.row_name(row.setting);
            (label, value(row), colour(row.subject))
        })
        .collect::<Vec<_>>()
    };
    let mut charts = vec![
        Bars {
            file: "attach-add.svg",
            title: "ADD, one after another, p50 in ms (logarithmic)".into(),
            unit: "ms",
            logarithmic: true,
            bars: attach(1, |row| row.add.p50_ms),
        },
        Bars {
            file: "attach-del.svg",
            title: "DEL, one after another, p50 in ms".into(),
            unit: "ms",
            logarithmic: false,
            bars: attach(1, |row| row.del.p50_ms),
        },
        Bars {
            file: "attach-at-once.svg",
            title: "100 at once, ADDs a second".into(),
            unit: "/s",
            logarithmic: false,
            bars: attach(100, |row| row.add_per_second),
        },
    ];
    let overlays: [OverlayBars; 4] = [
        ("overlay-one.svg", "One TCP stream, Gbit/s", "Gbit/s", |row| {
            row.one_stream.gbit_per_second
        }),
        ("overlay-four.svg", "Four TCP streams, Gbit/s", "Gbit/s", |row| {
            row.four_streams.gbit_per_second
        }),
        ("overlay-cpu.svg", "Processor time per GB, one stream, s", "s/GB", |row| {
            row.one_stream.cpu_s_per_gb
        }),
        ("overlay-latency.svg", "Round trip of one byte, p50 in us", "us", |row| {
            row.latency.p50_us
        }),
    ];
    for (file, title, unit, value) in overlays {
        let bars = report.overlay.iter().map(|row| {
            let right = if row.mtu == overlay::Mtu::Right { MANX } else { WRONG };
            let colour = if row.mode == "direct" { FLOOR } else { right };
            (overlay::name(row), value(row), colour)
        });
        let bars = bars.collect();
        charts.push(Bars { file, title: title.into(), unit, logarithmic: false, bars });
    }
    charts
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Floor => FLOOR,
        kind if kind.is_manx() => MANX,
        _ => OTHER,
    }
}

fn bar_chart(path: &Path, chart: &Bars) -> Result<(), Box<dyn std::error::Error>> {
    let height = TOP + ROW * i32::try_from(chart.bars.len())? + 12;
    let root = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    root.fill(&WHITE)?;
    text(&root, &chart.title, (12, 12), 20)?;
    let largest = chart.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    let smallest = chart.bars.iter().map(|bar| bar.1).fold(largest, f64::min);
    let room = f64::from(WIDTH) - f64::from(LABELS) - 110.0;
    for (number, (label, value, colour)) in chart.bars.iter().enumerate() {
        let top = TOP + ROW * i32::try_from(number)?;
        let part = if chart.logarithmic {
            // From half the smallest, so that every bar has a length.
            let from = (smallest / 2.0).ln();
            (value.ln() - from) / (largest.ln() - from)
        } else {
            value / largest
        };
        let end = LABELS + (room * part).round() as i32;
        let shape = [(LABELS, top), (end.max(LABELS + 1), top + ROW - 7)];
        root.draw(&Rectangle::new(shape, colour.filled()))?;
        text(&root, label, (12, top + 2), 13)?;
        let told = format!("{} {}", figure(*value), chart.unit);
        text(&root, &told, (end + 6, top + 2), 13)?;
    }
    Ok(root.present()?)
}

fn text(
    area: &Area<'_>,
    words: &str,
    at: (i32, i32),
    size: i32,
) -> Result<(), Box<dyn std::error::Error>> {
    Ok(area.draw(&Text::new(words.to_owned(), at, (FONT, size)))?)
}

/// Three digits that count.
pub fn figure(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

type Series = Vec<(String, Vec<(f64, f64)>)>;

fn crowded(report: &Report) -> Series {
    let kinds = Kind::plugins().into_iter();
    kinds
        .map(|kind| {
            let rows = report.attach.iter().filter(|row| {
                row.crowded && row.subject == kind && row.setting == Setting::default()
            });
            let points = rows.map(|row| (row.present as f64, row.add.p50_ms)).collect();
            (kind.name().to_owned(), points)
        })
        .collect()
}

fn scale(report: &Report) -> Series {
    let mut series = Series::new();
    for mode in ["direct", "vxlan"] {
        let rows = || report.scale.iter().filter(|row| row.mode == mode);
        let points = |value: fn(&crate::scale::Row) -> f64| {
            rows().map(|row| (row.peers as f64, value(row))).collect()
        };
        series.push((format!("{mode}, from nothing"), points(|row| row.from_nothing.cpu_ms)));
        series.push((format!("{mode}, one changed"), points(|row| row.one_changed.cpu_ms)));
    }
    series
}

fn line_chart(
    path: &Path,
    title: &str,
    axes: [&str; 2],
    series: &Series,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || series.iter().flat_map(|(_, points)| points.iter());
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let root = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    plot(&root, title, axes, series, 0.0..right * 1.02, 0.0..top)
}

fn plot<X, Y>(
    root: &Area<'_>,
    title: &str,
    [x, y]: [&str; 2],
    series: &Series,
    across: X,
    up: Y,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(root)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(across, up)?;
    chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
    for ((name, points), colour) in series.iter().zip(PALETTE.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font((FONT, 13))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(root.present()?)
}
