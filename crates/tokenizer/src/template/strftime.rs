//! The directives of Python's `strftime` (C locale) that chat templates use.
//! This file does not know which time it is.

use std::fmt::Write;

use time::OffsetDateTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const MAX_FORMAT_BYTES: usize = 256;

/// Writes `time` in the given format.
///
/// # Errors
/// The unknown directive, or a format that is too long.
pub(super) fn format(time: OffsetDateTime, format: &str) -> Result<String, String> {
    if format.len() > MAX_FORMAT_BYTES {
        return Err(format!("strftime_now: the format is longer than {MAX_FORMAT_BYTES} bytes"));
    }
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next().unwrap_or('%');
        let padded = directive != '-';
        if !padded {
            directive = characters.next().unwrap_or('-');
        }
        let field = field(time, directive, padded).ok_or_else(|| {
            format!(
                "strftime_now: the directive %{}{directive} is not supported",
                if padded { "" } else { "-" }
            )
        })?;
        text.push_str(&field);
    }
    Ok(text)
}

fn field(time: OffsetDateTime, directive: char, padded: bool) -> Option<String> {
    let number =
        |value: u32, width: usize| if padded { format!("{value:0width$}") } else { value.to_string() };
    let month = MONTHS[(u8::from(time.month()) as usize - 1).min(11)];
    let weekday = time.weekday().to_string();
    let hour12 = (u32::from(time.hour()) + 11) % 12 + 1;
    let offset = time.offset().whole_minutes();
    Some(match directive {
        'Y' => format!("{:04}", time.year()),
        'y' => number(time.year().rem_euclid(100) as u32, 2),
        'm' => number(u8::from(time.month()).into(), 2),
        'd' => number(time.day().into(), 2),
        'e' => format!("{:2}", time.day()),
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'A' => weekday,
        'a' => weekday.get(..3)?.to_owned(),
        'H' => number(time.hour().into(), 2),
        'I' => number(hour12, 2),
        'M' => number(time.minute().into(), 2),
        'S' => number(time.second().into(), 2),
        'p' => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        'j' => number(time.ordinal().into(), 3),
        'F' => format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day()),
        'T' => format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()),
        'z' => {
            let mut text = String::from(if offset < 0 { "-" } else { "+" });
            write!(text, "{:02}{:02}", offset.unsigned_abs() / 60, offset.unsigned_abs() % 60).ok()?;
            text
        }
        'Z' if offset == 0 => "UTC".to_owned(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn fields_are_written_as_python_writes_them() {
        let moment = datetime!(2024-07-05 03:04:09 UTC);
        assert_eq!(format(moment, "%d %b %Y, %A %e %B %y").unwrap(), "05 Jul 2024, Friday  5 July 24");
        assert_eq!(
            format(moment, "%-d/%-m %H:%M:%S %I%p %j %F %T%%").unwrap(),
            "5/7 03:04:09 03AM 187 2024-07-05 03:04:09%"
        );
        assert_eq!(format(datetime!(2024-12-31 12:00 +08:00), "%I %p %z").unwrap(), "12 PM +0800");
        assert!(format(moment, "%Q").unwrap_err().contains("%Q"));
    }
}
