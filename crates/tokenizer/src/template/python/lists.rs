//! Methods of lists, tuples and dictionaries. Those that change them are refused, as Jinja's sandbox does.

use minijinja::value::{Tuple, Value};
use minijinja::{Error, ErrorKind, State};

use super::arguments::Arguments;
use super::text::plain;
use super::values::DictView;
use super::{invalid, operators};

pub(super) fn call_list(
    state: &State<'_, '_>,
    list: &Value,
    method: &str,
    arguments: &Arguments<'_>,
) -> Result<Value, Error> {
    state.consume_fuel(list.len().unwrap_or(0) as u64 / 16)?;
    match method {
        "count" | "index" => {
            let wanted = arguments.get(0, "")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            arguments.finish(1)?;
            let mut equal = list.try_iter()?.map(|item| operators::equal(&item, &wanted));
            if method == "count" {
                return Ok(Value::from(equal.filter(|&equal| equal).count()));
            }
            equal
                .position(|equal| equal)
                .map(Value::from)
                .ok_or_else(|| invalid("index: the value is not in the list"))
        }
        "copy" if !list.is_tuple() => {
            arguments.finish(0)?;
            Ok(list.try_iter()?.collect::<Vec<Value>>().into())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

pub(super) fn call_dict(
    state: &State<'_, '_>,
    dict: &Value,
    method: &str,
    arguments: &Arguments<'_>,
) -> Result<Value, Error> {
    let view = |name, make: &dyn Fn(Value, Value) -> Value| -> Result<Value, Error> {
        arguments.finish(0)?;
        let keys = dict.try_iter()?;
        let mut items = Vec::new();
        for key in keys {
            state.consume_fuel(1)?;
            let value = dict.get_item(&key)?;
            items.push(make(key, value));
        }
        Ok(Value::from_object(DictView { name, items }))
    };
    match method {
        "keys" => view("dict_keys", &|key, _| key),
        "values" => view("dict_values", &|_, value| value),
        "items" => view("dict_items", &|key, value| Value::from(Tuple::from([key, value]))),
        "get" => {
            let key = arguments.get(0, "")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let default = arguments.get(1, "")?;
            arguments.finish(2)?;
            let of_key = |key: &Value| dict.as_object().and_then(|object| object.get_value(key));
            // A guarded text finds what stands under it without its marks.
            let value = of_key(&key).or_else(|| of_key(&Value::from(&*plain(key.as_str()?))));
            Ok(value.or(default).unwrap_or_else(|| Value::from(())))
        }
        "copy" => {
            arguments.finish(0)?;
            let mut fields = Vec::new();
            for key in dict.try_iter()? {
                state.consume_fuel(1)?;
                let value = dict.get_item(&key)?;
                fields.push((key, value));
            }
            Ok(Value::from_pairs(fields))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
