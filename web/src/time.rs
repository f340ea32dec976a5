//! Times and sizes as people read them.

use glassbloom_spec::id::{UnixMillis, UnixSeconds};

/// RFC 3339 in UTC, for the attribute `datetime` and for where there is no browser.
pub fn iso(time: UnixSeconds) -> String {
    let (days, seconds) = (time.get() / 86_400, time.get() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date and time in the visitor's zone and manner; in UTC where there is no browser.
pub fn local(time: UnixSeconds) -> String {
    #[cfg(target_arch = "wasm32")]
    {
        let date = js_sys::Date::new(&((time.get() * 1000) as f64).into());
        String::from(date.to_locale_string("default", &wasm_bindgen::JsValue::UNDEFINED))
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        iso(time).replace('T', " ").replace('Z', " UTC")
    }
}

/// How long before `now` a time was, in one unit: `12 s ago`.
pub fn ago(time: UnixSeconds, now: UnixMillis) -> String {
    match now.seconds().get().checked_sub(time.get()) {
        // Clocks of a visitor and a witness differ by more than nothing.
        None | Some(0) => "just now".to_owned(),
        Some(seconds) => format!("{} ago", span(seconds)),
    }
}

/// A length of time in its largest whole unit.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number with thin spaces between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes.
pub fn bytes(count: u64) -> String {
    match count {
        0..1000 => format!("{count} bytes"),
        1000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of year 0, so that the leap day ends a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_132_800, "2026-11-20T00:00:00Z"),
        ] {
            assert_eq!(iso(seconds.into()), text);
        }
    }

    #[test]
    fn writes_spans_and_numbers() {
        let now = UnixMillis::new(1_000_000_000);
        assert_eq!(ago(999_988.into(), now), "12 s ago");
        assert_eq!(ago(1_000_001.into(), now), "just now");
        assert_eq!(span(3 * 3600), "3 h");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
        assert_eq!(bytes(2_400_000), "2.4 MB");
    }
}
