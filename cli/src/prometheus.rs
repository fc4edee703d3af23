//! Reads the Prometheus text format, as the proxies' `/metrics` write it.
//!
//! Tolerant on purpose: a line that cannot be read is skipped, because a table that shows nothing helps nobody.
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, and the OpenMetrics text that differs
//! from it in comments and exemplars only.

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

/// Cumulative counts by upper bound, as a histogram is written; bounds ascend, the last one is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    /// The samples of `name` that carry all of `labels`.
    pub(crate) fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0
            .iter()
            .filter(move |s| s.name == name && labels.iter().all(|(key, want)| s.label(key) == Some(want)))
    }

    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// The histogram `name` over all series that carry `labels`, added up.
    pub(crate) fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Buckets {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.select(&format!("{name}_bucket"), labels) {
            let Some(bound) = sample.label("le").and_then(parse_number) else { continue };
            match buckets.iter_mut().find(|(b, _)| *b == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Buckets(buckets)
    }
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Buckets {
    /// What was counted since `earlier`. A counter that went back (a restart) counts from zero.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.0.iter().find(|(b, _)| *b == bound).map_or(0.0, |(_, c)| *c);
        let restarted = self.0.iter().any(|(bound, count)| *count < before(*bound));
        if restarted {
            return self.clone();
        }
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// The value below which the share `q` of the observations lies, by linear interpolation inside its bucket.
    /// `None` without observations. Above the last finite bound only that bound is known.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = q * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank && *count > below {
                if bound.is_infinite() {
                    return Some(lower);
                }
                return Some(lower + (bound - lower) * (rank - below).max(0.0) / (count - below));
            }
            (lower, below) = (*bound, *count);
        }
        Some(lower)
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(labels) => parse_labels(labels)?,
        None => (Vec::new(), rest),
    };
    let value = parse_number(rest.split_whitespace().next()?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads `a="b",c="d"}` and returns what follows the brace.
fn parse_labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = parse_quoted(after)?;
        labels.push((name.trim().to_owned(), value));
        rest = after;
    }
}

/// Reads up to the closing quote, undoing `\\`, `\"` and `\n`.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn parse_number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP requests Requests.
# TYPE requests counter
requests_total{backend="shop/cart:80",status="200"} 12
requests_total{backend="shop/cart:80",status="503"} 3 1712345678
requests_total{backend="shop/other:80",status="200"} 40
up 1
this line is nonsense {
broken{a="b} 3
took_seconds_bucket{le="0.01",side="in"} 50
took_seconds_bucket{le="0.1",side="in"} 99
took_seconds_bucket{le="+Inf",side="in"} 100
took_seconds_bucket{le="0.01",side="out"} 0
took_seconds_bucket{le="0.1",side="out"} 1
took_seconds_bucket{le="+Inf",side="out"} 1
# EOF
"#;

    #[test]
    fn sums_the_series_that_carry_the_labels() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("requests_total", &[("backend", "shop/cart:80")]), 15.0);
        assert_eq!(samples.sum("requests_total", &[("status", "200")]), 52.0);
        assert_eq!(samples.sum("up", &[]), 1.0);
        assert_eq!(samples.sum("absent", &[]), 0.0);
    }

    #[test]
    fn skips_what_it_cannot_read_and_keeps_the_rest() {
        let samples = Samples::parse(TEXT);
        assert!(samples.select("broken", &[]).next().is_none());
        assert_eq!(samples.0.len(), 10);
    }

    #[test]
    fn undoes_escapes_in_label_values() {
        let samples = Samples::parse(r#"m{a="x\"y\\z\n",b="1}2"} 4"#);
        let sample = samples.select("m", &[]).next().unwrap();
        assert_eq!(sample.label("a"), Some("x\"y\\z\n"));
        assert_eq!(sample.label("b"), Some("1}2"));
        assert_eq!(sample.value, 4.0);
    }

    #[test]
    fn reads_exemplars_as_nothing() {
        let samples = Samples::parse("m_bucket{le=\"1\"} 4 # {trace_id=\"abc\"} 0.5");
        assert_eq!(samples.sum("m_bucket", &[]), 4.0);
    }

    #[test]
    fn quantiles_interpolate_inside_the_bucket() {
        let buckets = Samples::parse(TEXT).buckets("took_seconds", &[("side", "in")]);
        assert_eq!(buckets.quantile(0.5), Some(0.01));
        assert_eq!(buckets.quantile(0.25), Some(0.005));
        assert_eq!(buckets.quantile(1.0), Some(0.1), "beyond the last finite bound only the bound is known");
        assert_eq!(Buckets::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_counts_only_what_came_since() {
        let earlier = Buckets(vec![(0.01, 50.0), (f64::INFINITY, 60.0)]);
        let later = Buckets(vec![(0.01, 50.0), (0.1, 70.0), (f64::INFINITY, 70.0)]);
        assert_eq!(later.since(&earlier), Buckets(vec![(0.01, 0.0), (0.1, 70.0), (f64::INFINITY, 10.0)]));
        let restarted = Buckets(vec![(0.01, 2.0), (f64::INFINITY, 2.0)]);
        assert_eq!(restarted.since(&earlier), restarted);
    }
}
