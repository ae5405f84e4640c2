//! How does what was seen look over time? As SVG, written by hand: a file of text that says the same for the same numbers.

use std::fmt::Write as _;

use super::load::Seen;
use super::report::{Chart, Group, Outcome, Shows};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 210.0;
const PLOT_HEIGHT: f64 = 150.0;
const CHART_HEIGHT: f64 = PLOT_HEIGHT + 58.0;
/// Seconds that make one point: the toolkit's.
const BIN: f64 = 10.0;
/// Told apart by who sees no red and green too, with the dashes beside them.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES: [&str; 6] = ["", "6 3", "2 2", "8 3 2 3", "4 2", "1 3"];

/// All charts of an outcome, one below the other.
pub(super) fn draw(outcome: &Outcome) -> String {
    let height = CHART_HEIGHT * outcome.charts.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" \
         fill=\"#ffffff\"/>\n",
        escaped(outcome.scenario.name())
    );
    for (at, chart) in outcome.charts.iter().enumerate() {
        draw_chart(&mut svg, outcome, chart, CHART_HEIGHT * at as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_chart(svg: &mut String, outcome: &Outcome, chart: &Chart, top: f64) {
    let lasts = outcome.stages.iter().map(|stage| stage.span.1).fold(BIN, f64::max);
    let bin = BIN.min(lasts / 12.0);
    let lines: Vec<Vec<Option<f64>>> =
        chart.groups.iter().map(|group| points(outcome, chart.shows, group, bin, lasts)).collect();
    let most = ceiling(lines.iter().flatten().flatten().copied().fold(0.0, f64::max));
    let (floor, width) = (top + 24.0 + PLOT_HEIGHT, WIDTH - LEFT - RIGHT);
    let x = |seconds: f64| LEFT + width * seconds / lasts;
    let y = |value: f64| floor - PLOT_HEIGHT * value / most;
    let unit = match chart.shows {
        Shows::Count => format!("requests in {bin:.0} s"),
        Shows::Took => "seconds".to_owned(),
    };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{} ({unit})</text>",
        top + 14.0,
        escaped(chart.title)
    );
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#dddddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            y(value),
            x(lasts),
            LEFT - 6.0,
            y(value) + 4.0,
            shown(value)
        );
    }
    for stage in &outcome.stages {
        let (from, until) = (x(stage.span.0), x(stage.span.1));
        let _ = writeln!(
            svg,
            "<path d=\"M{from:.1} {:.1}V{floor:.1}\" stroke=\"#999999\" stroke-dasharray=\"3 3\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{}</text><text x=\"{from:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{:.0} s</text>",
            floor - PLOT_HEIGHT,
            f64::midpoint(from, until),
            floor + 14.0,
            escaped(stage.name),
            floor + 27.0,
            stage.span.0
        );
    }
    for (at, (group, line)) in chart.groups.iter().zip(&lines).enumerate() {
        let (colour, dashes) = (COLOURS[at % COLOURS.len()], DASHES[at % DASHES.len()]);
        let style =
            format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        let mut path = String::new();
        let mut is_down = false;
        for (at, value) in line.iter().enumerate() {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let middle = ((at as f64 + 0.5) * bin).min(lasts);
            let _ = write!(path, "{}{:.1} {:.1}", if is_down { "L" } else { "M" }, x(middle), y(*value));
            is_down = true;
        }
        let place = top + 34.0 + 17.0 * at as f64;
        let legend = WIDTH - RIGHT + 14.0;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" {style}/><path d=\"M{legend} {place}h22\" {style}/><text x=\"{}\" y=\"{}\">{}</text>",
            legend + 28.0,
            place + 4.0,
            escaped(&group.name)
        );
    }
}

/// A number for each bin of time; none where nothing is to be averaged.
fn points(outcome: &Outcome, shows: Shows, group: &Group, bin: f64, lasts: f64) -> Vec<Option<f64>> {
    let of_bin = |at: usize| {
        let from = at as f64 * bin;
        let in_bin = |seen: &&Seen| seen.is_within((from, from + bin)) && (group.has)(seen);
        let found: Vec<f64> = outcome.seen.iter().filter(in_bin).map(|seen| seen.took).collect();
        match shows {
            Shows::Count => Some(found.len() as f64),
            Shows::Took => (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64),
        }
    };
    (0..(lasts / bin).ceil() as usize).map(of_bin).collect()
}

/// A round number that is no less.
fn ceiling(most: f64) -> f64 {
    let power = 10f64.powf(most.max(1e-3).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|step| *step >= most)
        .unwrap_or(most)
}

fn shown(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::report::Stage;
    use crate::scenarios::{Pace, Scenario};

    fn seen(at: f64, backend: &str) -> Seen {
        Seen {
            at,
            took: 0.5,
            status: 200,
            key: "k",
            is_low: false,
            backend: Some(backend.to_owned()),
            tokens: 0,
            recorded: 0,
            client: None,
        }
    }

    #[test]
    fn a_picture_shows_each_group_in_each_bin() {
        let outcome = Outcome {
            scenario: Scenario::RoundRobinSimple,
            pace: Pace { scale: 1, shortened: 1 },
            marks: Vec::new(),
            seen: vec![seen(1.0, "a"), seen(2.0, "a"), seen(11.0, "b"), seen(119.0, "a")],
            stages: vec![Stage { name: "one & all", span: (0.0, 120.0) }],
            charts: vec![
                Chart {
                    title: "who",
                    shows: Shows::Count,
                    groups: vec![Group::new("a<b", |seen| seen.is_by("a"))],
                },
                Chart {
                    title: "how long",
                    shows: Shows::Took,
                    groups: vec![Group::new("b", |seen| seen.is_by("b"))],
                },
            ],
        };
        let [count, took] = [0, 1].map(|at| {
            let chart = &outcome.charts[at];
            points(&outcome, chart.shows, &chart.groups[0], 10.0, 120.0)
        });
        assert_eq!((count[0], count[1], count[11]), (Some(2.0), Some(0.0), Some(1.0)));
        assert_eq!((took[0], took[1], count.len()), (None, Some(0.5), 12));
        let svg = draw(&outcome);
        assert_eq!(svg, draw(&outcome));
        for text in ["one &amp; all", "a&lt;b", "who (requests in 10 s)", "how long (seconds)"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
