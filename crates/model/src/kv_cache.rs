//! Which type keys and values get when a model is to be served.

use std::fmt;
use std::str::FromStr;

use zhenjin_tensor::{Dtype, KvDtype};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvCacheDtype {
    /// Int8 where the weights are quantised, for their products are computed in 8 bits anyway; else f32, so that a model
    /// in floats is served without rounding its keys and values.
    #[default]
    Auto,
    /// This one.
    Always(KvDtype),
}

impl KvCacheDtype {
    /// The type for a model whose layers are in `weights` and whose heads are `head_dim` wide.
    pub(crate) fn choose(self, weights: Dtype, head_dim: usize) -> KvDtype {
        match self {
            KvCacheDtype::Always(dtype) => dtype,
            KvCacheDtype::Auto if weights.is_quantised() && KvDtype::Int8.holds_heads_of(head_dim) => {
                KvDtype::Int8
            }
            KvCacheDtype::Auto => KvDtype::F32,
        }
    }
}

impl fmt::Display for KvCacheDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvCacheDtype::Auto => formatter.write_str("auto"),
            KvCacheDtype::Always(dtype) => dtype.fmt(formatter),
        }
    }
}

impl FromStr for KvCacheDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<KvCacheDtype, String> {
        match name {
            "auto" => Ok(KvCacheDtype::Auto),
            name => name.parse().map(KvCacheDtype::Always).map_err(|error| format!("{error}, and auto")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantised_weights_get_int8_where_their_heads_allow_it() {
        let auto = KvCacheDtype::default();
        assert_eq!(auto.choose(Dtype::Q4_1, 64), KvDtype::Int8);
        assert_eq!(auto.choose(Dtype::Q4_1, 80), KvDtype::F32);
        for floats in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            assert_eq!(auto.choose(floats, 64), KvDtype::F32);
        }
        for asked in KvDtype::ALL {
            assert_eq!(KvCacheDtype::Always(asked).choose(Dtype::Q4_1, 64), asked);
        }
    }

    #[test]
    fn names_are_read_back_and_unknown_ones_are_refused() {
        for name in ["auto", "f32", "int8"] {
            assert_eq!(name.parse::<KvCacheDtype>().unwrap().to_string(), name);
        }
        assert!("q8_0".parse::<KvCacheDtype>().unwrap_err().contains("f32 and int8, and auto"));
    }
}
