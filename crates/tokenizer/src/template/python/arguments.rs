//! What a call passes, by position or by name. This file does not know what is called.

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};

use super::invalid;

/// The arguments of one call.
pub(super) struct Arguments<'a> {
    positional: &'a [Value],
    named: Option<Kwargs>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(values: &'a [Value]) -> Result<Self, Error> {
        match values.split_last() {
            Some((last, positional)) if last.is_kwargs() => {
                Ok(Self { positional, named: Some(Kwargs::try_from(last.clone())?) })
            }
            _ => Ok(Self { positional: values, named: None }),
        }
    }

    /// The argument at a position, which can also be given by its name.
    pub(super) fn get(&self, position: usize, name: &str) -> Result<Option<Value>, Error> {
        if let Some(value) = self.positional.get(position) {
            return Ok(Some(value.clone()));
        }
        match &self.named {
            Some(named) if named.has(name) => Ok(Some(named.get::<Value>(name)?)),
            _ => Ok(None),
        }
    }

    /// As [`Arguments::get`], and Python's default `None` counts as absent.
    pub(super) fn given(&self, position: usize, name: &str) -> Result<Option<Value>, Error> {
        Ok(self.get(position, name)?.filter(|value| !value.is_none()))
    }

    pub(super) fn text(&self, position: usize, name: &str) -> Result<Option<String>, Error> {
        match self.given(position, name)? {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(invalid(format!(
                    "the argument {name} must be a text, not {}",
                    super::type_name(&value)
                ))),
            },
        }
    }

    pub(super) fn integer(&self, position: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.given(position, name)? {
            None => Ok(None),
            Some(value) if value.is_integer() => i64::try_from(value).map(Some),
            Some(value) => Err(invalid(format!(
                "the argument {name} must be an integer, not {}",
                super::type_name(&value)
            ))),
        }
    }

    pub(super) fn flag(&self, position: usize, name: &str) -> Result<bool, Error> {
        Ok(self.get(position, name)?.is_some_and(|value| value.is_true()))
    }

    /// All arguments by their names, for a function of the engine that takes them so.
    pub(super) fn by_name(&self, names: &[&'static str]) -> Result<Kwargs, Error> {
        let mut named = Vec::new();
        for (position, &name) in names.iter().enumerate() {
            if let Some(value) = self.given(position, name)? {
                named.push((name, value));
            }
        }
        self.finish(names.len())?;
        Ok(named.into_iter().collect())
    }

    /// # Errors
    /// When there are more arguments than `most`, or one of a name that nobody asked for.
    pub(super) fn finish(&self, most: usize) -> Result<(), Error> {
        if self.positional.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.named.as_ref().map_or(Ok(()), Kwargs::assert_all_used)
    }
}
