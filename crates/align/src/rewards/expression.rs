//! Rewards as text: `number`, `regex:"\\d+"`, `0.7*number+0.3*length:tokens<=64`.
//!
//! A sum of terms; a term is a reward, or a weight, `*` and a reward; a reward is a name, or a name, `:` and an argument. An
//! argument goes to the next `+`; one that holds `+` or `"`, or that begins or ends with a space, stands in double quotes, in
//! which `\"` and `\\` are a quote and a backslash, and every other backslash is itself.

use std::fmt;

/// A reward and what it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardTerm {
    /// What its value is multiplied with.
    pub weight: f64,
    /// Its name.
    pub name: String,
    /// What follows the colon.
    pub argument: Option<String>,
    /// Where it begins in the text, in bytes.
    pub at: usize,
}

/// A sum of rewards, as text.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardExpression {
    /// Its terms; at least one.
    pub terms: Vec<RewardTerm>,
}

/// A text that is no sum of rewards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, at character {} of `{text}`", text[..*at].chars().count() + 1)]
pub struct RewardSyntaxError {
    /// The whole text.
    pub text: String,
    /// Where it goes wrong, in bytes.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

impl RewardExpression {
    /// Reads a text.
    ///
    /// # Errors
    /// [`RewardSyntaxError`] with the place.
    pub fn parse(text: &str) -> Result<RewardExpression, RewardSyntaxError> {
        let mut parser = Parser { text, position: 0 };
        let mut terms = vec![parser.term()?];
        loop {
            parser.skip_spaces();
            match parser.rest().chars().next() {
                None => return Ok(RewardExpression { terms }),
                Some('+') => parser.position += 1,
                Some(other) => return Err(parser.error(format!("`+` or the end is expected, not `{other}`"))),
            }
            terms.push(parser.term()?);
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn error(&self, reason: impl Into<String>) -> RewardSyntaxError {
        RewardSyntaxError { text: self.text.to_owned(), at: self.position, reason: reason.into() }
    }

    fn skip_spaces(&mut self) {
        self.position += self.rest().len() - self.rest().trim_start().len();
    }

    fn term(&mut self) -> Result<RewardTerm, RewardSyntaxError> {
        self.skip_spaces();
        let weight = self.weight()?;
        self.skip_spaces();
        let at = self.position;
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        let length = self.rest().find(|character| !is_name(character)).unwrap_or(self.rest().len());
        let name = self.rest()[..length].to_owned();
        if !name.starts_with(|character: char| character.is_ascii_alphabetic()) {
            let hint = if at > 0 { " (an argument with `+` stands in double quotes)" } else { "" };
            return Err(self.error(format!("the name of a reward is expected{hint}")));
        }
        self.position += length;
        let argument = if self.rest().starts_with(':') {
            self.position += 1;
            Some(self.argument()?)
        } else {
            None
        };
        Ok(RewardTerm { weight, name, argument, at })
    }

    /// A number and `*`, if the term begins so.
    fn weight(&mut self) -> Result<f64, RewardSyntaxError> {
        let is_number = |character: char| character.is_ascii_digit() || matches!(character, '.' | '-');
        if !self.rest().starts_with(is_number) {
            return Ok(1.0);
        }
        let star = self.rest().find('*');
        let Some(star) = star else { return Err(self.error("`*` and a reward must follow the weight")) };
        let number = self.rest()[..star].trim();
        let weight = number.parse::<f64>().ok().filter(|weight| weight.is_finite());
        let weight = weight.ok_or_else(|| self.error(format!("`{number}` is not a weight")))?;
        self.position += star + 1;
        Ok(weight)
    }

    fn argument(&mut self) -> Result<String, RewardSyntaxError> {
        if !self.rest().starts_with('"') {
            let length = self.rest().find('+').unwrap_or(self.rest().len());
            let argument = self.rest()[..length].trim();
            if let Some(quote) = argument.find('"') {
                self.position += quote;
                return Err(self.error("a quote inside an argument needs quotes around all of it"));
            }
            if argument.is_empty() {
                return Err(self.error("an argument is expected behind `:`"));
            }
            self.position += length;
            return Ok(argument.to_owned());
        }
        let start = self.position;
        self.position += 1;
        let mut argument = String::new();
        let mut characters = self.rest().char_indices().peekable();
        while let Some((place, character)) = characters.next() {
            match character {
                '"' => {
                    self.position += place + 1;
                    return Ok(argument);
                }
                '\\' if characters.peek().is_some_and(|(_, next)| matches!(next, '"' | '\\')) => {
                    argument.extend(characters.next().map(|(_, next)| next));
                }
                other => argument.push(other),
            }
        }
        self.position = start;
        Err(self.error("the quote does not end"))
    }
}

impl fmt::Display for RewardTerm {
    /// The reward without its weight.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name)?;
        let Some(argument) = &self.argument else { return Ok(()) };
        if argument.is_empty() || argument.contains(['+', '"']) || argument.trim() != argument {
            return write!(formatter, ":\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""));
        }
        write!(formatter, ":{argument}")
    }
}

impl fmt::Display for RewardExpression {
    /// A text that reads as the same sum.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, term) in self.terms.iter().enumerate() {
            let plus = if place == 0 { "" } else { "+" };
            if term.weight == 1.0 {
                write!(formatter, "{plus}{term}")?;
            } else {
                write!(formatter, "{plus}{}*{term}", term.weight)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Weight, name and argument of each term.
    type Terms = Vec<(f64, String, Option<String>)>;

    fn parse(text: &str) -> Result<Terms, (usize, String)> {
        let expression = RewardExpression::parse(text).map_err(|error| (error.at, error.reason))?;
        Ok(expression.terms.into_iter().map(|term| (term.weight, term.name, term.argument)).collect())
    }

    #[test]
    fn sums_weights_and_arguments_are_read() {
        let term = |weight, name: &str, argument: Option<&str>| {
            (weight, name.to_owned(), argument.map(str::to_owned))
        };
        assert_eq!(parse("number"), Ok(vec![term(1.0, "number", None)]));
        assert_eq!(
            parse(" 0.7*number + -0.3 * length:tokens<=64 "),
            Ok(vec![term(0.7, "number", None), term(-0.3, "length", Some("tokens<=64"))])
        );
        assert_eq!(parse(r"regex:\d{2}"), Ok(vec![term(1.0, "regex", Some(r"\d{2}"))]));
        assert_eq!(parse(r#"regex:"\d+ \"a\"""#), Ok(vec![term(1.0, "regex", Some(r#"\d+ "a""#))]));
        assert_eq!(parse("http:http://a:1/b?c=*"), Ok(vec![term(1.0, "http", Some("http://a:1/b?c=*"))]));
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, at, reason) in [
            ("", 0, "name of a reward"),
            ("number+", 7, "double quotes"),
            ("0.5number", 0, "must follow the weight"),
            ("0.5.1*number", 0, "is not a weight"),
            ("regex:", 6, "argument is expected"),
            ("regex:\"a", 6, "does not end"),
            ("number number", 7, "`+` or the end"),
            ("regex:a\"b", 7, "needs quotes"),
            ("1e999*number", 0, "is not a weight"),
        ] {
            let (found, message) = parse(text).expect_err(text);
            assert!(found == at && message.contains(reason), "{text}: {found} {message}");
        }
        let error = RewardExpression::parse("number + 数").expect_err("no name").to_string();
        assert!(error.ends_with("at character 10 of `number + 数`"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(
            terms in prop::collection::vec((-1e3f64..1e3, "[a-z][a-z0-9_-]{0,8}", prop::option::of(".{0,12}")), 1..4)
        ) {
            let terms = terms.into_iter().map(|(weight, name, argument)| RewardTerm { weight, name, argument, at: 0 });
            let expression = RewardExpression { terms: terms.collect() };
            let text = expression.to_string();
            let mut read = RewardExpression::parse(&text).expect(&text);
            read.terms.iter_mut().for_each(|term| term.at = 0);
            prop_assert_eq!(read, expression);
        }

        #[test]
        fn any_text_is_read_or_has_an_error_inside_it(text in r#"[a-z0-9.*+:"\\ 数-]{0,24}"#) {
            if let Err(error) = RewardExpression::parse(&text) {
                prop_assert!(text.is_char_boundary(error.at));
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
