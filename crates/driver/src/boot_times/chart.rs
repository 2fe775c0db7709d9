//! A picture of boots: rectangles and text.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Boot, Report, Series};

/// Phases and their colours, which people who see less colour can also tell apart; a phase of another name is grey.
const COLOURS: [(&str, &str); 9] = [
    ("prepare", "#bbbbbb"),
    ("spawn", "#4477aa"),
    ("firmware", "#aa3377"),
    ("kernel", "#ee6677"),
    ("initrd", "#ccbb44"),
    ("userspace", "#228833"),
    ("restore", "#ee6677"),
    ("settle", "#ccbb44"),
    ("answer", "#66ccee"),
];
const GREY: &str = "#777777";

// All in pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 20.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 44.0;
const AXIS: f64 = 30.0;
/// A bar that is narrower has no word in it.
const WORD_MIN: f64 = 62.0;
/// About how many lines an axis has.
const TICKS: f64 = 8.0;

/// Draws a report: for each series a chart with its own axis.
pub(super) fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for series in report
        .series
        .iter()
        .filter(|series| !series.boots.is_empty())
    {
        top = draw_series(&mut body, series, &report.accelerator, top);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws a chart below `top`; gives where it ends.
fn draw_series(body: &mut String, series: &Series, accelerator: &str, top: f64) -> f64 {
    let longest = series.boots.iter().map(Boot::total).max();
    let longest = longest.unwrap_or_default().max(Duration::from_millis(1));
    let scale = (WIDTH - LEFT - RIGHT) / longest.as_secs_f64();
    let median = series.totals().map_or(Duration::ZERO, |span| span.median);
    text(
        body,
        (8.0, top + 18.0),
        "font-size=\"14\" font-weight=\"bold\"",
        &format!(
            "{}, {}: {} to the first answer (median of {}; {accelerator})",
            series.machine,
            series.start.name(),
            written(median),
            series.boots.len()
        ),
    );
    legend(body, series, top + 26.0);
    let first_row = top + HEAD;
    let bottom = first_row + ROW * count(series.boots.len());
    axis(body, longest, scale, first_row, bottom);
    for (row, boot) in series.boots.iter().enumerate() {
        let y = first_row + ROW * count(row);
        let end = "text-anchor=\"end\"";
        text(
            body,
            (LEFT - 6.0, y + 13.0),
            end,
            &format!("start {}", row + 1),
        );
        bars(body, boot, scale, y + (ROW - BAR) / 2.0);
        let x = LEFT + boot.total().as_secs_f64() * scale + 5.0;
        text(body, (x, y + 13.0), "", &written(boot.total()));
    }
    bottom + AXIS
}

/// One start: a bar for each phase, with its name and time for who points at it.
fn bars(body: &mut String, boot: &Boot, scale: f64, y: f64) {
    let mut x = LEFT;
    for phase in &boot.phases {
        let width = phase.length.as_secs_f64() * scale;
        let title = format!("{} {}", phase.name, written(phase.length));
        let _ = writeln!(
            body,
            "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{BAR}\" fill=\"{}\"><title>{}</title></rect>",
            colour(phase.name),
            escape(&title)
        );
        if width >= WORD_MIN {
            text(body, (x + 4.0, y + 11.0), "fill=\"white\"", phase.name);
        }
        x += width;
    }
}

fn legend(body: &mut String, series: &Series, y: f64) {
    let mut x = LEFT;
    for (name, span) in series.phases() {
        let words = format!("{name} {}", written(span.median));
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"10\" height=\"10\" fill=\"{}\"/>",
            colour(name)
        );
        text(body, (x + 14.0, y + 9.0), "", &words);
        x += 26.0 + 6.5 * count(words.len());
    }
}

/// Lines at round times, with the times below them.
fn axis(body: &mut String, longest: Duration, scale: f64, top: f64, bottom: f64) {
    let step = round_step(longest.as_secs_f64() / TICKS);
    let mut tick = 0_u32;
    loop {
        let seconds = step * f64::from(tick);
        // A little over the end counts as the end.
        if seconds > longest.as_secs_f64() * 1.001 {
            return;
        }
        let x = LEFT + seconds * scale;
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#dddddd\"/>"
        );
        let label = written(Duration::from_secs_f64(seconds));
        text(body, (x, bottom + 14.0), "text-anchor=\"middle\"", &label);
        tick += 1;
    }
}

/// The next of 1, 2, 5, 10, 20, 50 … thousandths that is not below `least`.
fn round_step(least: f64) -> f64 {
    let mut power = 0.001;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if factor * power >= least {
                return factor * power;
            }
        }
        power *= 10.0;
    }
}

fn text(body: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>"
    );
}

fn colour(phase: &str) -> &'static str {
    let found = COLOURS.iter().find(|(name, _)| *name == phase);
    found.map_or(GREY, |(_, colour)| colour)
}

/// A time with the digits that matter.
fn written(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{:.0} ms", seconds * 1e3)
    }
}

/// What may stand in XML: no characters of markup, and none that XML forbids.
fn escape(words: &str) -> String {
    let mut escaped = String::new();
    for c in words.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number of things as a length; exact far beyond any number of starts.
fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
