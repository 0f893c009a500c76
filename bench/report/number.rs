//! Figures as people read them, with their units.

/// A whole number in groups of three: `1,234,567`.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value <= -0.5 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A round number as short as it goes: `0`, `250`, `50 k`, `1.5 M`.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e3 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    format!("{}{unit}", trimmed(value, 2))
}

/// A rate to three digits: `148 k/s` is no more exact than its rounds are.
pub(super) fn rate(value: f64) -> String {
    let step = 10f64.powi((value.abs().max(1.0).log10().floor() as i32 - 2).max(0));
    format!("{}/s", short((value / step).round() * step))
}

/// Microseconds in the unit that fits: `64 us`, `1.26 ms`, `3.02 s`.
pub(super) fn time_us(us: f64) -> String {
    match us {
        _ if us >= 1e6 => format!("{} s", trimmed(us / 1e6, 2)),
        _ if us >= 1e3 => format!("{} ms", trimmed(us / 1e3, 2)),
        _ if us >= 1.0 || us <= 0.0 => format!("{} us", trimmed(us, 0)),
        _ => format!("{} ns", trimmed(us * 1e3, 1)),
    }
}

/// A connect latency: what failed counts as 100 s in histograms.
pub(super) fn latency_us(us: f64) -> String {
    if us >= FAILED_US { "failed".to_owned() } else { time_us(us) }
}

/// Octets: `768 B`, `1.5 MB`.
pub(super) fn bytes(value: f64) -> String {
    let (value, unit) = match value {
        _ if value >= 1e9 => (value / 1e9, "GB"),
        _ if value >= 1e6 => (value / 1e6, "MB"),
        _ if value >= 1e4 => (value / 1e3, "kB"),
        _ => (value, "B"),
    };
    format!("{} {unit}", trimmed(value, 1))
}

/// At most `digits` behind the point, no zeros at the end.
pub(super) fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The latency as which failures are recorded, us.
const FAILED_US: f64 = 1e8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_keep_their_value() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!((grouped(0.0), grouped(999.0), grouped(-1000.0)), ("0".into(), "999".into(), "-1,000".into()));
        assert_eq!((short(0.0), short(250.0), short(50_000.0)), ("0".into(), "250".into(), "50 k".into()));
        assert_eq!((short(1_500_000.0), short(0.2)), ("1.5 M".into(), "0.2".into()));
        assert_eq!((rate(148_732.0), rate(640.0), rate(3.0)), ("149 k/s".into(), "640/s".into(), "3/s".into()));
        assert_eq!((time_us(0.4), time_us(0.0)), ("400 ns".into(), "0 us".into()));
        assert_eq!((time_us(64.4), time_us(1260.0)), ("64 us".into(), "1.26 ms".into()));
        assert_eq!((latency_us(100_060_000.0), latency_us(5.0)), ("failed".into(), "5 us".into()));
        assert_eq!((time_us(3_020_000.0), bytes(24.0)), ("3.02 s".into(), "24 B".into()));
        assert_eq!((bytes(288.5), bytes(1_500_000.0)), ("288.5 B".into(), "1.5 MB".into()));
    }
}
