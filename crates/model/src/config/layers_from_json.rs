//! Which layers are not rotated and which see only a window, in a `config.json`.

use super::checks::MAX_LAYERS;
use super::fields::Fields;
use super::{SlidingWindow, last_of_every};
use crate::errors::{FormatError, quoted};
use crate::families::{Family, UnrotatedLayers, WindowRule};

/// The layers without rotary embedding: those with 0 in a list, which may be longer than the layers are, or the last of every so many.
pub(super) fn unrotated_layers(
    fields: &Fields<'_>,
    family: &Family,
    layers: usize,
) -> Result<Vec<usize>, FormatError> {
    const LIST: &str = "no_rope_layers";
    const INTERVAL: &str = "no_rope_layer_interval";
    let UnrotatedLayers::Listed { interval } = family.unrotated else { return Ok(Vec::new()) };
    let interval = fields.size(INTERVAL)?.unwrap_or(interval);
    let Some(list) = fields.list(LIST)? else {
        return match interval {
            0 => Err(fields.fault(INTERVAL, "must be at least 1, found 0")),
            interval => Ok(last_of_every(interval, layers)),
        };
    };
    if list.len() < layers {
        return Err(fields.fault(LIST, format!("has {} entries for {layers} layers", list.len())));
    }
    let mut unrotated = Vec::new();
    for (layer, value) in list.iter().take(layers).enumerate() {
        match value.as_u64() {
            Some(0) => unrotated.push(layer),
            Some(1) => {}
            _ => {
                let problem = format!(
                    "must have 1 for each layer that rotates and 0 for each other, found {} for layer {layer}",
                    quoted(&value.to_string())
                );
                return Err(fields.fault(LIST, problem));
            }
        }
    }
    Ok(unrotated)
}

/// The window of a model of `layers` layers and the layers that have it; `None` where none has.
pub(super) fn window(
    fields: &Fields<'_>,
    family: &Family,
    layers: usize,
    unrotated_layers: &[usize],
) -> Result<Option<SlidingWindow>, FormatError> {
    const POSITIONS: &str = "sliding_window";
    const USED: &str = "use_sliding_window";
    let given = fields.size(POSITIONS)?;
    let or_default =
        |default: Option<usize>| if fields.object.contains_key(POSITIONS) { given } else { default };
    let types = sliding_layers(fields, layers)?;
    match family.window {
        WindowRule::Never => {
            let place = match (given, &types) {
                (Some(_), _) => POSITIONS,
                (None, Some(types)) if !types.is_empty() => "layer_types",
                _ => return Ok(None),
            };
            Err(fields.fault(place, "models of this family have no sliding window"))
        }
        WindowRule::AllLayers { default } => {
            let window = or_default(default).map(|positions| SlidingWindow::from_layer(positions, 0, layers));
            let expected = window.as_ref().map_or(0, |window| window.layers.len());
            if types.is_some_and(|types| types.len() != expected) {
                return Err(fields.fault("layer_types", "all layers must agree with sliding_window"));
            }
            Ok(window)
        }
        WindowRule::LaterLayers => {
            let positions = given.filter(|_| fields.bool(USED).is_ok_and(|used| used == Some(true)));
            fields.bool(USED)?;
            let layers = match (types, positions) {
                (Some(types), _) => types,
                (None, None) => Vec::new(),
                (None, Some(positions)) => {
                    let first = fields.required_size("max_window_layers")?;
                    SlidingWindow::from_layer(positions, first, layers).layers
                }
            };
            in_layers(fields, positions, layers)
        }
        WindowRule::UnrotatedLayers => {
            let is_used = fields.bool(USED)?.unwrap_or(false);
            let positions = given.filter(|_| is_used);
            let unrotated = || if positions.is_some() { unrotated_layers.to_vec() } else { Vec::new() };
            in_layers(fields, positions, types.unwrap_or_else(unrotated))
        }
        WindowRule::AllButLastOfEvery { interval, default } => {
            const PATTERN: &str = "sliding_window_pattern";
            let interval = fields.size(PATTERN)?.unwrap_or(interval);
            let layers = match types {
                Some(types) => types,
                None if interval == 0 => return Err(fields.fault(PATTERN, "must be at least 1, found 0")),
                None => all_but_last_of_every(interval, layers),
            };
            in_layers(fields, or_default(Some(default)), layers)
        }
    }
}

/// All of `layers` layers but the last of every `interval`.
pub(super) fn all_but_last_of_every(interval: usize, layers: usize) -> Vec<usize> {
    (0..layers.min(MAX_LAYERS)).filter(|layer| !(layer + 1).is_multiple_of(interval)).collect()
}

/// A window in `layers`, which must be given where there are any.
fn in_layers(
    fields: &Fields<'_>,
    positions: Option<usize>,
    layers: Vec<usize>,
) -> Result<Option<SlidingWindow>, FormatError> {
    match positions {
        _ if layers.is_empty() => Ok(None),
        Some(positions) => Ok(Some(SlidingWindow { positions, layers })),
        None => Err(fields.fault(
            "layer_types",
            "some layers are of type `sliding_attention`, but use_sliding_window and sliding_window do not give a window",
        )),
    }
}

/// The layers of type `sliding_attention` of `layer_types`, ascending; `None` where it is left out.
fn sliding_layers(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<usize>>, FormatError> {
    let Some(types) = fields.list("layer_types")? else { return Ok(None) };
    let fault = |problem: String| Err(fields.fault("layer_types", problem));
    if types.len() != layers {
        return fault(format!("has {} entries for {layers} layers", types.len()));
    }
    let mut sliding = Vec::new();
    for (layer, value) in types.iter().enumerate() {
        match value.as_str() {
            Some("full_attention") => {}
            Some("sliding_attention") => sliding.push(layer),
            _ => return fault(format!("{} of layer {layer} is not supported", quoted(&value.to_string()))),
        }
    }
    Ok(Some(sliding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_every_so_many_layers_sees_everything() {
        assert_eq!(all_but_last_of_every(3, 7), [0, 1, 3, 4, 6]);
        assert_eq!(all_but_last_of_every(6, 5), [0, 1, 2, 3, 4]);
        assert!(all_but_last_of_every(1, 5).is_empty());
        // Far more layers than are possible, which is refused later.
        assert!(all_but_last_of_every(6, usize::MAX).len() < MAX_LAYERS);
    }
}
