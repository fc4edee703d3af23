use std::fmt;
use std::str::FromStr;

use super::tally::{Column, Tally};
use crate::reason::Reason;

/// What a replay must not come to: `limited > 1%`, `status.5xx >= 10`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    measure: Measure,
    comparison: Comparison,
    number: f64,
    percent: bool,
}

/// A replay, and how many verdicts differ from that of the other policies.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'t> {
    pub tally: &'t Tally,
    pub changed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Sum(Column),
    Retried,
    Changed,
    /// From and to, both of them.
    Status(u16, u16),
    Reason(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Other,
}

/// Those of two characters first.
const COMPARISONS: [(&str, Comparison); 6] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    ("!=", Comparison::Other),
    (">", Comparison::More),
    ("<", Comparison::Less),
];

const MEASURES: [(&str, Measure); 9] = [
    ("requests", Measure::Sum(Column::Requests)),
    ("limited", Measure::Sum(Column::Limited)),
    ("refused", Measure::Sum(Column::Refused)),
    ("would_refuse", Measure::Sum(Column::WouldRefuse)),
    ("delayed", Measure::Sum(Column::Delayed)),
    ("retries", Measure::Sum(Column::Retries)),
    ("retried", Measure::Retried),
    ("failed", Measure::Sum(Column::Failed)),
    ("changed", Measure::Changed),
];

impl FromStr for Threshold {
    type Err = String;

    /// `MEASURE OPERATOR NUMBER[%]`, where a percentage is one of all requests.
    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['>', '<', '=', '!']).ok_or_else(|| {
            format!("`{text}` compares nothing: write `limited > 1%`, with one of > >= < <= == !=")
        })?;
        let (measure, rest) = text.split_at(at);
        let found = COMPARISONS.iter().find_map(|(sign, of)| Some((rest.strip_prefix(sign)?, *of)));
        let (number, comparison) =
            found.ok_or_else(|| format!("`{}` is none of > >= < <= == !=", rest.trim()))?;
        let number = number.trim();
        let (digits, percent) = match number.strip_suffix('%') {
            Some(digits) => (digits.trim_end(), true),
            None => (number, false),
        };
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let read = digits.parse().ok().filter(|number: &f64| is_plain && number.is_finite());
        let number = read.ok_or_else(|| format!("`{number}` is no number: write 10, or 0.5%"))?;
        Ok(Self { measure: measure.trim().parse()?, comparison, number, percent })
    }
}

impl FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, measure)) = MEASURES.iter().find(|(name, _)| *name == text) {
            return Ok(*measure);
        }
        if let Some(status) = text.strip_prefix("status.") {
            return statuses(status).ok_or_else(|| format!("`{status}` is no status: write 429, or 5xx"));
        }
        if let Some(flag) = text.strip_prefix("reason.") {
            let found = Reason::ALL.into_iter().find(|reason| reason.flag() == flag);
            return found.map(Self::Reason).ok_or_else(|| format!("there is no reason `{flag}`"));
        }
        let names: Vec<_> = MEASURES.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "`{text}` is not measured: write {}, status.429, status.5xx or reason.no_route",
            names.join(", ")
        ))
    }
}

fn statuses(text: &str) -> Option<Measure> {
    let class = text.strip_suffix("xx").filter(|class| class.len() == 1);
    match class {
        Some(class) => {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
            Some(Measure::Status(class * 100, class * 100 + 99))
        }
        None => {
            let status = text.parse().ok().filter(|status| text.len() == 3 && (100..600).contains(status))?;
            Some(Measure::Status(status, status))
        }
    }
}

impl Threshold {
    /// Whether it is so, and what was measured: a number, or a percentage where one is asked for.
    ///
    /// # Errors
    /// It asks for what was not measured.
    pub fn holds(&self, measured: Measured<'_>) -> Result<(bool, f64), String> {
        let tally = measured.tally;
        let count = match self.measure {
            Measure::Sum(column) => tally.sum(column),
            Measure::Retried => tally.retried,
            Measure::Changed => {
                measured.changed.ok_or("`changed` is measured against other policies only")?
            }
            Measure::Status(from, to) => tally.statuses.range(from..=to).map(|(_, count)| count).sum(),
            Measure::Reason(reason) => tally.reasons.get(&reason).copied().unwrap_or_default(),
        };
        let all = tally.sum(Column::Requests);
        let value = match self.percent {
            false => count as f64,
            true if all == 0 => 0.0,
            true => count as f64 * 100.0 / all as f64,
        };
        let holds = match self.comparison {
            Comparison::More => value > self.number,
            Comparison::AtLeast => value >= self.number,
            Comparison::Less => value < self.number,
            Comparison::AtMost => value <= self.number,
            Comparison::Equal => value == self.number,
            Comparison::Other => value != self.number,
        };
        Ok((holds, value))
    }

    /// Whether it needs other policies to compare with.
    pub fn asks_change(&self) -> bool {
        self.measure == Measure::Changed
    }

    pub fn is_percent(&self) -> bool {
        self.percent
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |wanted| MEASURES.iter().find(|(_, measure)| *measure == wanted).map(|(name, _)| *name);
        match self.measure {
            Measure::Status(from, to) if from == to => write!(f, "status.{from}")?,
            Measure::Status(from, _) => write!(f, "status.{}xx", from / 100)?,
            Measure::Reason(reason) => write!(f, "reason.{}", reason.flag())?,
            measure => f.write_str(name(measure).unwrap_or_default())?,
        }
        let sign = COMPARISONS.iter().find(|(_, of)| *of == self.comparison).map_or("", |(sign, _)| *sign);
        write!(f, " {sign} {}{}", self.number, if self.percent { "%" } else { "" })
    }
}
