//! The logs of a service, as `log.toml` declares them: their names, and when one ends and another goes on.

use std::{fmt, str::FromStr};

use anyhow::{Context, bail};
use glassbloom_spec::{id::UnixSeconds, note::is_key_name, receipt::is_receipts};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The logs of a new service: the origin after the service's name, and the path they are served under.
pub const LOGS: [&str; 2] = ["registry", "receipts"];

/// One log of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// The origin after the service's name, and the path it is served under: `receipts`, `receipts/2027`.
    pub path: String,
    /// When it takes its last entries and becomes read-only for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<Date>,
    /// The log that goes on afterwards, by its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
}

impl LogFile {
    /// A log without an end.
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), closes: None, successor: None }
    }
}

pub(crate) fn default_logs() -> Vec<LogFile> {
    LOGS.map(LogFile::new).to_vec()
}

pub(crate) fn are_default(logs: &[LogFile]) -> bool {
    logs == default_logs()
}

/// The path as a file name.
pub(crate) fn flat(path: &str) -> String {
    path.replace('/', "-")
}

/// The path of the log that the given one goes on from.
pub(crate) fn predecessor<'a>(logs: &'a [LogFile], path: &str) -> Option<&'a LogFile> {
    logs.iter().find(|log| log.successor.as_deref() == Some(path))
}

/// Checks that the logs can stand beside each other.
pub(crate) fn check(name: &str, logs: &[LogFile]) -> anyhow::Result<()> {
    for (at, log) in logs.iter().enumerate() {
        let path = &log.path;
        check_path(path)?;
        if !is_key_name(&format!("{name}/{path}")) {
            bail!("{name:?} cannot name a log: a name has no spaces and no plus sign");
        }
        if logs[..at].iter().any(|other| flat(&other.path) == flat(path)) {
            bail!("the log {path} is declared twice, or its files could not be told from those of another");
        }
        let Some(successor) = &log.successor else { continue };
        if log.closes.is_none() {
            bail!("the log {path} has a successor but no date at which it closes");
        }
        if !logs.iter().any(|other| other.path == *successor) {
            bail!("the log {path} names the successor {successor}, which is not declared");
        }
        if logs[..at].iter().any(|other| other.successor.as_ref() == Some(successor)) {
            bail!("two logs name the successor {successor}");
        }
        if is_receipts(&format!("{name}/{path}")) != is_receipts(&format!("{name}/{successor}")) {
            bail!("{successor} cannot go on where {path} ends: only one of the two is a receipts log");
        }
        // Follows the chain: a log cannot come after itself.
        let (mut next, mut steps) = (Some(successor), 0);
        while let Some(path) = next {
            steps += 1;
            if steps > logs.len() {
                bail!("the log {} comes after itself", log.path);
            }
            next = logs.iter().find(|other| other.path == *path).and_then(|other| other.successor.as_ref());
        }
    }
    if logs.is_empty() {
        bail!("no log is declared");
    }
    Ok(())
}

fn check_path(path: &str) -> anyhow::Result<()> {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &&str| {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        !part.is_empty() && part.bytes().all(letter) && !part.starts_with('.')
    };
    if !parts.iter().all(plain) || parts.len() > 4 || path.len() > 100 {
        bail!("{path:?} is not the path of a log: use small letters, digits, - and _, such as receipts/2027");
    }
    // What a log or the service serves itself.
    let taken = ["healthz", "metrics", "policy"];
    let inside = ["add", "append", "checkpoint", "tile"];
    if taken.contains(&parts[0]) || parts[1..].iter().any(|part| inside.contains(part)) {
        bail!("{path:?} is not the path of a log: the service uses it for something else");
    }
    Ok(())
}

/// A time to the second: `2027-01-01T00:00:00Z`. `[RFC 3339]`, UTC only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub UnixSeconds);

const DAY: u64 = 24 * 60 * 60;

/// Days since 1970 of a date of the Gregorian calendar, for years from 1970.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let since_march = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + since_march - 719_468
}

impl FromStr for Date {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parsed = (|| {
            let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
            let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
                text.split(by).map(|part| part.parse().ok()).collect()
            };
            let ([year, month, day], [hour, minute, second]) =
                (numbers(date, '-')?.try_into().ok()?, numbers(time, ':')?.try_into().ok()?);
            let _: ([u64; 3], [u64; 3]) = ([year, month, day], [hour, minute, second]);
            let fits = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
            let fits = fits && hour < 24 && minute < 60 && second < 60;
            let seconds = fits.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)?;
            let date = Self(UnixSeconds::new(seconds));
            // Written back and compared, so that each time has one spelling and no month a 31st too many.
            (date.to_string() == text).then_some(date)
        })();
        parsed.with_context(|| format!("{text:?} is not a time such as 2027-01-01T00:00:00Z"))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.get();
        let (mut day, rest) = (seconds / DAY, seconds % DAY);
        let mut year = 1970 + day / 366;
        while days(year + 1, 1, 1) <= day {
            year += 1;
        }
        let month = (1..=12).rev().find(|&month| days(year, month, 1) <= day).unwrap_or(1);
        day -= days(year, month, 1);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-20T17:23:00Z", 1_795_195_380),
            ("2027-01-01T00:00:00Z", 1_798_761_600),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(text.parse::<Date>().unwrap(), Date(UnixSeconds::new(seconds)), "{text}");
            assert_eq!(Date(UnixSeconds::new(seconds)).to_string(), text);
        }
        for day in 0..60_000 {
            let date = Date(UnixSeconds::new(day * DAY + day));
            assert_eq!(date.to_string().parse::<Date>().unwrap(), date);
        }
        for text in [
            "",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00:00+01:00",
            "2027-1-01T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2027-04-31T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "1969-12-31T00:00:00Z",
            " 2027-01-01T00:00:00Z",
            "2027-01-01t00:00:00Z",
            "-1-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }

    #[test]
    fn logs_that_cannot_stand_beside_each_other_are_refused() {
        let closing = |path: &str, next: &str| LogFile {
            closes: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            successor: Some(next.to_owned()),
            ..LogFile::new(path)
        };
        let of = |logs: &[LogFile]| check("a.example", logs);
        of(&default_logs()).unwrap();
        of(&[closing("receipts", "receipts/2027"), LogFile::new("receipts/2027")]).unwrap();
        for (logs, why) in [
            (vec![], "no log"),
            (vec![LogFile::new("a"), LogFile::new("a")], "twice"),
            (vec![LogFile::new("a/b"), LogFile::new("a-b")], "told"),
            (vec![closing("receipts", "receipts/2027")], "not declared"),
            (vec![closing("receipts", "registry"), LogFile::new("registry")], "receipts log"),
            (vec![closing("receipts", "receipts")], "after itself"),
            (vec![closing("a", "b"), closing("b", "a")], "after itself"),
            (vec![closing("a", "c"), closing("b", "c"), LogFile::new("c")], "two logs"),
            (vec![LogFile { closes: None, ..closing("a", "b") }, LogFile::new("b")], "no date"),
            (vec![LogFile::new("metrics")], "something else"),
            (vec![LogFile::new("a/tile")], "something else"),
            (vec![LogFile::new("../a")], "not the path"),
            (vec![LogFile::new("A")], "not the path"),
            (vec![LogFile::new("")], "not the path"),
        ] {
            let error = of(&logs).unwrap_err().to_string();
            assert!(error.contains(why), "{logs:?}: {error}");
        }
    }
}
