//! Times on the command line: seconds, or as people write them.

use glassbloom_spec::{bundle::utc, id::UnixSeconds};

/// As `2026-11-20 17:23 UTC`; years after 9999, which stand for no end, as well.
pub fn text(time: UnixSeconds) -> String {
    format!("{} UTC", utc(time.get() / 60))
}

/// Seconds since 1970, `2026-11-20`, or `2026-11-20T17:23:00Z`.
pub fn parse(text: &str) -> Option<UnixSeconds> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (date, clock) = match text.strip_suffix('Z').unwrap_or(text).split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock),
        None => (text, "0:0:0"),
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = match clock.matches(':').count() {
        1 => numbers(&format!("{clock}:0"), ':')?,
        _ => numbers(clock, ':')?,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let fits = (1970..=9999).contains(&year)
        && (1..=length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let before: u64 = lengths.iter().take(month as usize - 1).sum();
    let leap_days = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    fits.then(|| {
        let days = 365 * (year - 1970) + leap_days(year) - leap_days(1970) + before + day - 1;
        UnixSeconds::new(86_400 * days + 3_600 * hour + 60 * minute + second)
    })
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let parts: Vec<u64> = text
        .split(between)
        .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?)
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (written, seconds) in [
            ("0", 0),
            ("1795195380", 1_795_195_380),
            ("2026-11-20T17:23:00Z", 1_795_195_380),
            ("2026-11-20 17:23", 1_795_195_380),
            ("2000-02-29", 951_782_400),
            ("2100-02-28T23:59:59Z", 4_107_542_399),
            ("1970-01-01", 0),
        ] {
            assert_eq!(parse(written).map(UnixSeconds::get), Some(seconds), "{written}");
        }
        assert_eq!(text(UnixSeconds::new(1_795_195_380)), "2026-11-20 17:23 UTC");
        for written in [
            "",
            "now",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2026-01-01T24:00:00Z",
            "1969-12-31",
            "-1",
            "2026-1",
            "2026-01-01T",
            "+5",
        ] {
            assert_eq!(parse(written), None, "{written}");
        }
    }
}
