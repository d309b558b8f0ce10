//! The directives of Python's `strftime` (C locale) that chat templates use.
//! This file does not know which time it is.

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
        let mut flag = None;
        if matches!(directive, '-' | '_' | '0' | '^') {
            flag = Some(directive);
            directive = characters.next().unwrap_or(directive);
        }
        let field = field(time, directive, flag).ok_or_else(|| {
            let flag = flag.map(String::from).unwrap_or_default();
            format!("strftime_now: the directive %{flag}{directive} is not supported")
        })?;
        text.push_str(&if flag == Some('^') { field.to_uppercase() } else { field });
    }
    Ok(text)
}

/// A number with the padding that its directive or a flag asks for.
fn number(value: i64, width: usize, padding: char, flag: Option<char>) -> String {
    match flag {
        Some('-') => value.to_string(),
        Some('_') => format!("{value:width$}"),
        Some('0') => format!("{value:0width$}"),
        _ if padding == '0' => format!("{value:0width$}"),
        _ => format!("{value:width$}"),
    }
}

fn field(time: OffsetDateTime, directive: char, flag: Option<char>) -> Option<String> {
    let zeros = |value: i64, width| Some(number(value, width, '0', flag));
    let spaces = |value: i64| Some(number(value, 2, ' ', flag));
    let hour12 = (i64::from(time.hour()) + 11) % 12 + 1;
    if let Some(number) = match directive {
        'Y' => zeros(i64::from(time.year()), 4),
        'C' => zeros(i64::from(time.year().div_euclid(100)), 2),
        'y' => zeros(i64::from(time.year().rem_euclid(100)), 2),
        'G' => zeros(i64::from(time.to_iso_week_date().0), 4),
        'g' => zeros(i64::from(time.to_iso_week_date().0.rem_euclid(100)), 2),
        'V' => zeros(i64::from(time.iso_week()), 2),
        'U' => zeros(i64::from(time.sunday_based_week()), 2),
        'W' => zeros(i64::from(time.monday_based_week()), 2),
        'm' => zeros(i64::from(u8::from(time.month())), 2),
        'd' => zeros(i64::from(time.day()), 2),
        'H' => zeros(i64::from(time.hour()), 2),
        'I' => zeros(hour12, 2),
        'M' => zeros(i64::from(time.minute()), 2),
        'S' => zeros(i64::from(time.second()), 2),
        'j' => zeros(i64::from(time.ordinal()), 3),
        'f' => Some(format!("{:06}", time.microsecond())),
        'e' => spaces(i64::from(time.day())),
        'k' => spaces(i64::from(time.hour())),
        'l' => spaces(hour12),
        'u' => Some(time.weekday().number_from_monday().to_string()),
        'w' => Some(time.weekday().number_days_from_sunday().to_string()),
        _ => None,
    } {
        return Some(number);
    }
    words(time, directive)
}

fn words(time: OffsetDateTime, directive: char) -> Option<String> {
    let month = MONTHS[(u8::from(time.month()) as usize - 1).min(11)];
    let weekday = time.weekday().to_string();
    let afternoon = time.hour() >= 12;
    let expanded = |pattern: &str| format(time, pattern).ok();
    Some(match directive {
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'A' => weekday,
        'a' => weekday.get(..3)?.to_owned(),
        'p' => if afternoon { "PM" } else { "AM" }.to_owned(),
        'P' => if afternoon { "pm" } else { "am" }.to_owned(),
        'F' => expanded("%Y-%m-%d")?,
        'T' | 'X' => expanded("%H:%M:%S")?,
        'R' => expanded("%H:%M")?,
        'D' | 'x' => expanded("%m/%d/%y")?,
        'r' => expanded("%I:%M:%S %p")?,
        'c' => expanded("%a %b %e %H:%M:%S %Y")?,
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        // The time is one without a zone, as `datetime.now()` gives it.
        'z' | 'Z' => String::new(),
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
        assert_eq!(format(datetime!(2024-12-31 12:00 +08:00), "%I %p %z").unwrap(), "12 PM ");
        assert!(format(moment, "%Q").unwrap_err().contains("%Q"));
    }
}
