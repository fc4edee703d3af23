//! Courses over time: as a line of blocks, and as a picture in SVG.

use std::fmt::Write as _;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// At most so many blocks wide; several steps of a course are summed into one where there are more.
pub(super) fn spark(counts: &[u64], width: usize) -> String {
    let sums = summed(counts, width);
    let most = sums.iter().copied().max().unwrap_or_default().max(1);
    let block = |count: &u64| match count {
        0 => ' ',
        count => BLOCKS[usize::try_from(count * 7 / most).unwrap_or(0).min(7)],
    };
    sums.iter().map(block).collect()
}

fn summed(counts: &[u64], width: usize) -> Vec<u64> {
    let together = counts.len().div_ceil(width.max(1)).max(1);
    counts.chunks(together).map(|chunk| chunk.iter().sum()).collect()
}

/// A line of a plot, with the class that gives it its colour.
pub(super) struct Course<'c> {
    pub(super) name: &'c str,
    pub(super) class: &'static str,
    pub(super) counts: Vec<u64>,
}

const WIDE: f64 = 720.0;
const HIGH: f64 = 160.0;
const LEFT: f64 = 56.0;
const BELOW: f64 = 22.0;

/// Courses over the same steps, each an area of its own from the ground up. `span`: how long it all lasts, for the axis.
pub(super) fn svg(courses: &[Course<'_>], span: &str) -> String {
    let steps = courses.iter().map(|course| course.counts.len()).max().unwrap_or_default().max(1);
    let most = courses.iter().flat_map(|course| &course.counts).copied().max().unwrap_or_default().max(1);
    let (width, height) = (WIDE - LEFT, HIGH - BELOW);
    let mut out = format!("<svg viewBox=\"0 0 {WIDE} {HIGH}\" role=\"img\">");
    for share in [0.0, 0.5, 1.0] {
        let y = height - share * (height - 8.0);
        let label = (share * most as f64).round();
        let _ = write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDE}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ =
            write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 4.0);
    }
    for course in courses {
        let mut path = format!("M{LEFT} {height}");
        for (at, count) in course.counts.iter().enumerate() {
            let y = height - *count as f64 / most as f64 * (height - 8.0);
            let x = |at: usize| LEFT + at as f64 / steps as f64 * width;
            let _ = write!(path, "H{:.1}V{y:.1}H{:.1}", x(at), x(at + 1));
        }
        let _ = write!(path, "V{height}Z");
        let (class, name) = (course.class, super::html::escape(course.name));
        let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"><title>{name}</title></path>");
    }
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"{}\">0</text>", HIGH - 6.0);
    let span = super::html::escape(span);
    let _ = write!(out, "<text x=\"{WIDE}\" y=\"{}\" text-anchor=\"end\">{span}</text></svg>", HIGH - 6.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_block_is_the_most_and_nothing_is_blank() {
        assert_eq!(spark(&[0, 1, 7, 14], 10), " ▁▄█");
        assert_eq!(spark(&[1; 100], 10), "█".repeat(10));
        assert_eq!(spark(&[], 10), "");
        assert_eq!(spark(&[u64::MAX / 8, 1], 10), "█▁");
    }

    #[test]
    fn a_plot_stays_within_its_frame() {
        let counts = vec![5, 0, 10];
        let plot = svg(&[Course { name: "a<b", class: "all", counts }], "3 s");
        assert!(plot.contains("a&lt;b") && plot.starts_with("<svg") && plot.ends_with("</svg>"));
        assert!(plot.contains("V8.0H720.0V138Z"), "{plot}");
        assert!(!svg(&[], "0 s").contains("NaN"));
    }
}
