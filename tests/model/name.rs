//! Names a state by the text of its machines.

use std::time::Duration;

/// Fields of the machines that hold a moment; one that is not named here only makes more states.
const MOMENTS: &[&str] = &[
    "ask_after",
    "at",
    "began",
    "born",
    "disconnected",
    "due",
    "end_due",
    "forgotten",
    "full",
    "gone_due",
    "heard",
    "last_message",
    "next_scan",
    "path_changed",
    "progress",
    "since",
    "subscribed",
    "told",
    "touched",
    "until",
];
/// Fields that decide nothing but how pauses scatter, counters, and what never changes.
const LEFT_OUT: &[&str] = &["counts", "jitter", "options", "statistics"];

/// Counts every moment from `now`, and leaves out what decides nothing.
pub(super) fn relative(machines: &str, now: Duration) -> String {
    let mut out = String::with_capacity(machines.len());
    let mut rest = machines;
    while let Some((before, after)) = rest.split_once(": ") {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let name = before.rsplit(|letter| !is_part(letter)).next().unwrap();
        out.push_str(before);
        out.push(':');
        rest = after;
        if LEFT_OUT.contains(&name) {
            rest = after.split_at(value_len(after)).1;
        } else if MOMENTS.contains(&name) {
            let (value, behind) = after.split_at(value_len(after));
            if let Some(moment) = read_moment(value) {
                out.push_str(&(moment - i128::try_from(now.as_nanos()).unwrap()).to_string());
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

/// How long the value is that a text begins with: up to a comma or an end that is not within it.
fn value_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.bytes().enumerate() {
        match letter {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' if depth == 0 => return at,
            b'}' | b')' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// The nanoseconds of a duration as `Debug` writes it, perhaps within `Some`.
fn read_moment(text: &str) -> Option<i128> {
    let text = text.strip_prefix("Some(").unwrap_or(text);
    let text = text.strip_suffix(')').unwrap_or(text);
    let (digits, unit) = text.split_at(text.find(|letter: char| letter.is_alphabetic())?);
    let nanos = match unit {
        "s" => 9,
        "ms" => 6,
        "µs" => 3,
        "ns" => 0,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = format!("{part:0<nanos$}");
    format!("{whole}{part}").parse().ok()
}
