//! The table: one tab-separated line for each comparison.

use std::fmt;

/// `row  value  unit  peer-or-limit-name  its-value  ratio`; the ratio is value / its-value.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What was measured.
    pub row: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is compared with: a target, a peer or a physical limit.
    pub other: String,
    /// How much that is, in the same unit.
    pub its_value: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, value, unit, other, its_value } = self;
        let (shown, its, ratio) = (Number(*value), Number(*its_value), Number(value / its_value));
        write!(f, "{row}\t{shown}\t{unit}\t{other}\t{its}\t{ratio}")
    }
}

/// Three figures or all before the point: more would be noise.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.abs() {
            large if large >= 100.0 => 0,
            middle if middle >= 1.0 => 2,
            _ => 4,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

/// The middle value; the lower one of two.
///
/// # Panics
/// Without values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_six_columns() {
        let line = Line {
            row: "add-http".to_owned(),
            value: 12_345.6,
            unit: "adds/s",
            other: "target".to_owned(),
            its_value: 12_000.0,
        };
        assert_eq!(line.to_string(), "add-http\t12346\tadds/s\ttarget\t12000\t1.03");
    }

    #[test]
    fn the_median_is_a_measured_value() {
        assert_eq!([vec![3.0, 1.0, 2.0], vec![2.0, 1.0], vec![5.0]].map(median), [2.0, 1.0, 5.0]);
    }
}
