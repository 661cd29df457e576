//! Figures, as a table and a plot.

use std::fmt::Write as _;

/// A figure with its goal.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    /// One value a round.
    pub ours: Vec<f64>,
    /// The peer's, in the same rounds; empty where there is none.
    pub peer: Vec<f64>,
    /// What is held against the goal: ours by peer's, or ours alone.
    pub goal: Goal,
}

pub enum Goal {
    /// Ours by the peer's, at least.
    Ratio(f64),
    /// Ours by the peer's, at most.
    RatioAtMost(f64),
    /// Ours, at most.
    AtMost(f64),
}

impl Row {
    /// What is held against the goal, and whether it meets it.
    fn result(&self) -> (f64, bool) {
        let pairs = self.ours.iter().zip(&self.peer);
        let ratio = median(&pairs.map(|(a, b)| a / b).collect::<Vec<_>>());
        match self.goal {
            Goal::Ratio(least) => (ratio, ratio >= least),
            Goal::RatioAtMost(most) => (ratio, ratio <= most),
            Goal::AtMost(most) => (median(&self.ours), median(&self.ours) <= most),
        }
    }
}

/// Three digits, or more where there are.
fn figure(value: f64) -> String {
    let decimals = usize::from(value < 100.0 && value.fract() != 0.0);
    format!("{value:.decimals$}")
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How far the extremes are apart, of the median.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / median(values)
}

pub fn print(rows: &[Row]) {
    println!(
        "\n{:<52} {:>12} {:>12} {:>8} {:>8}  ",
        "median of the rounds", "zenop", "peer", "ratio", "goal"
    );
    for row in rows {
        let (result, met) = row.result();
        let peer = if row.peer.is_empty() {
            String::new()
        } else {
            figure(median(&row.peer))
        };
        let (ratio, goal) = match row.goal {
            Goal::Ratio(least) => (format!("{result:.2}"), format!("≥ {least}")),
            Goal::RatioAtMost(most) => (format!("{result:.2}"), format!("≤ {most}")),
            Goal::AtMost(most) => (String::new(), format!("≤ {most}")),
        };
        let what = format!("{} [{}]", row.what, row.unit);
        let verdict = if met { "met" } else { "MISSED" };
        println!(
            "{what:<52} {:>12} {peer:>12} {ratio:>8} {goal:>8}  {verdict}",
            figure(median(&row.ours))
        );
        if !row.peer.is_empty() && spread(&row.peer) > 0.15 {
            println!(
                "  unsteady: the peer's rounds are {:.0} % apart",
                spread(&row.peer) * 100.0
            );
        }
    }
}

/// A bar for each ratio, by its goal, which is a line. What is better than twice its goal goes to
/// the end.
pub fn plot(rows: &[Row]) -> String {
    const GOAL: f64 = 250.0;
    let rows: Vec<_> = rows
        .iter()
        .filter_map(|row| match row.goal {
            Goal::Ratio(goal) => Some((row, goal)),
            _ => None,
        })
        .collect();
    let height = 40 * rows.len() + 30;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <line x1=\"{GOAL}\" x2=\"{GOAL}\" y1=\"10\" y2=\"{height}\" stroke=\"#c33\"/>\n"
    );
    for (i, (row, goal)) in rows.iter().enumerate() {
        let (ratio, y) = (row.result().0, 40 * i + 10);
        let width = (ratio / goal).min(2.0) * GOAL;
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text>\n\
             <rect x=\"0\" y=\"{}\" width=\"{width:.0}\" height=\"14\" fill=\"#4a7\"/>\n\
             <text x=\"{:.0}\" y=\"{}\">{ratio:.2} (goal {goal})</text>",
            y + 12,
            row.what,
            y + 17,
            width + 5.0,
            y + 29
        );
    }
    svg.push_str("</svg>\n");
    svg
}
