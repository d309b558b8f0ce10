//! Modules of families whose files have one tensor for several projections (Phi-3). The `peft` library adapts such a module as a whole, with one
//! A for all of its projections; here every projection has an A of its own.
//!
//! What `peft` wrote is read as an addition to each projection, with the same A and its own rows of B. What was trained here is written as one
//! product that `peft` can read: the A of the projections one below the other, and B with a block for each and zeros elsewhere. The file's
//! metadata has the heights of these blocks, so that what was written is read as it was.

use std::borrow::Cow;

use super::LowRankValues;
use crate::config::{ModelConfig, RopeLayout};
use crate::names::Naming;
use crate::tensor_source::{LayerWeightName, WeightName};

/// The projections of a module, in the order of their rows.
const MODULES: [&[LayerWeightName]; 2] = [
    &[LayerWeightName::Query, LayerWeightName::Key, LayerWeightName::Value],
    &[LayerWeightName::Gate, LayerWeightName::Up],
];

/// The most projections of a module.
pub(super) const MOST_PROJECTIONS: usize = 3;

/// The projections of the fused module that has this one; none for one that has a module of its own.
fn projections_beside(projection: LayerWeightName) -> &'static [LayerWeightName] {
    MODULES.into_iter().find(|module| module.contains(&projection)).unwrap_or_default()
}

/// Rows of a tensor that holds those of several projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowsOf {
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) all: usize,
}

impl RowsOf {
    /// These rows of `values`, of `width` values each.
    pub(super) fn of(self, values: &[f32], width: usize) -> Vec<f32> {
        values.iter().skip(self.first * width).take(self.rows * width).copied().collect()
    }
}

/// The weight that the folders of the model's family call `name`, or the first of several in it.
pub(super) fn weight_called(name: &str, config: &ModelConfig) -> Option<WeightName> {
    let naming = Naming::of_folder(config);
    naming.read(name).or_else(|| fused_weights(name, config).into_iter().next().map(|(weight, _)| weight))
}

/// The weights, all matrices or all biases, in the tensor `name` of a fused family that holds several, and which of its rows are theirs.
pub(super) fn fused_weights(name: &str, config: &ModelConfig) -> Vec<(WeightName, RowsOf)> {
    let Some((module, kind)) = name.rsplit_once('.').filter(|_| config.is_fused()) else { return Vec::new() };
    let matrix = Naming::of_folder(config).read_stacked(&format!("{module}.weight"), true);
    let Some(WeightName::Layer(layer, projection)) = matrix else { return Vec::new() };
    let projections =
        projections_beside(projection).iter().map(|projection| WeightName::Layer(layer, *projection));
    let height = |weight: WeightName| config.shape(weight)[0];
    let all: usize = projections.clone().map(height).sum();
    let mut first = 0;
    let mut weights = Vec::new();
    for matrix in projections {
        let rows = height(matrix);
        let weight = if kind == "bias" { super::merge_file::bias_of(matrix) } else { Some(matrix) };
        weights.extend(weight.map(|weight| (weight, RowsOf { first, rows, all })));
        first += rows;
    }
    weights
}

/// A and B of a module that was adapted as a whole.
pub(super) struct WholeProduct {
    /// Rows of A and columns of B.
    pub(super) rank: usize,
    /// A, `[rank, inputs]`.
    pub(super) down: Vec<f32>,
    /// B, `[outputs of all projections, rank]`.
    pub(super) up: Vec<f32>,
    /// What the product is multiplied with.
    pub(super) scale: f32,
}

impl WholeProduct {
    /// The additions to the projections `weights`, in the order of their rows. `heights` are those of the blocks of A, one for each projection,
    /// where the file says them; B must have zeros outside its blocks, or it was changed since.
    pub(super) fn split(
        self,
        weights: &[(WeightName, RowsOf)],
        heights: Option<Vec<usize>>,
    ) -> Vec<LowRankValues> {
        let is_whole = |heights: &Vec<usize>| {
            heights.len() == weights.len() && heights.iter().sum::<usize>() == self.rank
        };
        let heights = heights.filter(is_whole).filter(|heights| self.is_blocks(weights, heights));
        let inputs = self.down.len() / self.rank.max(1);
        let mut first = 0;
        let mut additions = Vec::new();
        for (index, (weight, rows)) in weights.iter().enumerate() {
            let WeightName::Layer(layer, projection) = *weight else { continue };
            let height = heights.as_ref().and_then(|heights| heights.get(index)).copied();
            let columns = height.map_or(0..self.rank, |height| first..first + height);
            first += height.unwrap_or(0);
            if columns.is_empty() {
                continue;
            }
            let up = rows.of(&self.up, self.rank);
            additions.push(LowRankValues {
                layer,
                projection,
                rank: columns.len(),
                down: self.down[columns.start * inputs..columns.end * inputs].to_vec(),
                up: up.chunks_exact(self.rank).flat_map(|row| row[columns.clone()].iter().copied()).collect(),
                scale: self.scale,
            });
        }
        additions
    }

    /// Whether B has zeros outside the blocks of these heights.
    fn is_blocks(&self, weights: &[(WeightName, RowsOf)], heights: &[usize]) -> bool {
        let mut first = 0;
        weights.iter().zip(heights).all(|((_, rows), height)| {
            let columns = first..first + height;
            first = columns.end;
            let up = rows.of(&self.up, self.rank);
            up.chunks_exact(self.rank).all(|row| {
                row.iter().enumerate().all(|(column, value)| *value == 0.0 || columns.contains(&column))
            })
        })
    }
}

/// The additions that a file has under one module's name.
pub(super) struct WrittenModule<'a> {
    layer: usize,
    /// By the order of rows; in a fused family some may have none.
    parts: Vec<(LayerWeightName, Option<&'a LowRankValues>)>,
}

/// The modules of additions, which are in the order of computation.
pub(super) fn modules(additions: &[LowRankValues], is_fused: bool) -> Vec<WrittenModule<'_>> {
    let mut modules: Vec<WrittenModule<'_>> = Vec::new();
    for addition in additions {
        let is_there = |module: &&mut WrittenModule<'_>| {
            module.layer == addition.layer
                && module.parts.iter().any(|(projection, _)| *projection == addition.projection)
        };
        if let Some(module) = modules.last_mut().filter(is_there) {
            let part = module.parts.iter_mut().find(|(projection, _)| *projection == addition.projection);
            part.into_iter().for_each(|(_, part)| *part = Some(addition));
            continue;
        }
        let beside = if is_fused { projections_beside(addition.projection) } else { &[] };
        let alone = [addition.projection];
        let projections = if beside.is_empty() { &alone[..] } else { beside };
        let part = |projection: &LayerWeightName| {
            (*projection, (*projection == addition.projection).then_some(addition))
        };
        modules.push(WrittenModule { layer: addition.layer, parts: projections.iter().map(part).collect() });
    }
    modules
}

impl<'a> WrittenModule<'a> {
    /// The module's name as the `peft` library gives it.
    pub(super) fn name(&self) -> String {
        let first = self.parts.first().map_or(LayerWeightName::Query, |(projection, _)| *projection);
        let weight = WeightName::Layer(self.layer, first);
        let stacked = if self.is_fused() { Naming::HuggingFace.spell_stacked(weight, true) } else { None };
        let name = stacked.unwrap_or_else(|| Naming::HuggingFace.spell(weight));
        name.strip_suffix(".weight").map_or(name.clone(), str::to_owned)
    }

    /// Whether it has several projections.
    fn is_fused(&self) -> bool {
        self.parts.len() > 1
    }

    fn additions(&self) -> impl Iterator<Item = &'a LowRankValues> {
        self.parts.iter().filter_map(|(_, addition)| *addition)
    }

    /// Rows of A and columns of B.
    pub(super) fn rank(&self) -> usize {
        self.additions().map(|addition| addition.rank).sum()
    }

    /// What the product is multiplied with: the greatest of the scales, which are mostly one.
    pub(super) fn scale(&self) -> f32 {
        let greater = |most: f32, scale: f32| if scale.abs() > most.abs() { scale } else { most };
        self.additions().map(|addition| addition.scale).fold(0.0, greater)
    }

    /// `lora_alpha`: the scale times the rank, exactly.
    pub(super) fn alpha(&self) -> f64 {
        f64::from(self.scale()) * self.rank() as f64
    }

    /// Heights of the blocks of A, one for each projection, in a fused module.
    pub(super) fn heights(&self) -> Option<Vec<usize>> {
        let height =
            |(_, addition): &(_, Option<&LowRankValues>)| addition.map_or(0, |addition| addition.rank);
        self.is_fused().then(|| self.parts.iter().map(height).collect())
    }

    /// A, `[rank, inputs]`.
    pub(super) fn down(&self) -> Vec<f32> {
        self.additions().flat_map(|addition| addition.down.iter().copied()).collect()
    }

    /// The shape of A.
    pub(super) fn down_shape(&self) -> [usize; 2] {
        let inputs = self.additions().next().map_or(0, |addition| addition.down.len() / addition.rank);
        [self.rank(), inputs]
    }

    /// The shape of B.
    pub(super) fn up_shape(&self, config: &ModelConfig) -> [usize; 2] {
        let height = |(projection, _): &(LayerWeightName, _)| {
            config.shape(WeightName::Layer(self.layer, *projection))[0]
        };
        [self.parts.iter().map(height).sum(), self.rank()]
    }

    /// B, `[outputs, rank]`, with rows in the order of Hugging Face files.
    pub(super) fn up(&self, config: &ModelConfig) -> Vec<f32> {
        let (rank, scale) = (self.rank(), self.scale());
        let [outputs, _] = self.up_shape(config);
        let mut up = vec![0.0; outputs * rank];
        let (mut row, mut column) = (0, 0);
        for (projection, addition) in &self.parts {
            if let Some(addition) = addition {
                let values = match config.rope.layout {
                    RopeLayout::Interleaved => Cow::Owned(addition.with_half_split_rows(config)),
                    RopeLayout::HalfSplit => Cow::Borrowed(&addition.up),
                };
                // Projections with other scales are multiplied here with what the common one lacks.
                let factor = if addition.scale == scale { 1.0 } else { addition.scale / scale };
                let rows = up[row * rank..].chunks_exact_mut(rank);
                for (out, values) in rows.zip(values.chunks_exact(addition.rank)) {
                    let block = &mut out[column..column + addition.rank];
                    block.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor);
                }
                column += addition.rank;
            }
            row += config.shape(WeightName::Layer(self.layer, *projection))[0];
        }
        up
    }
}

/// What the metadata of a file says of a module's blocks.
pub(super) fn written_heights(heights: &[usize]) -> String {
    heights.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

/// What [`written_heights`] wrote; nothing of another text.
pub(super) fn read_heights(text: &str) -> Option<Vec<usize>> {
    let heights: Option<Vec<usize>> = text.split(' ').map(|height| height.parse().ok()).collect();
    // Their sum must not overflow.
    heights.filter(|heights| heights.iter().all(|height| *height <= super::settings::MAX_RANK))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_json::{Value, json};
    use zhenjin_tensor::Dtype;

    use super::super::{AdapterMerge, AdapterValues};
    use super::*;
    use crate::safetensors::parse_header;
    use crate::testing::{random_adapter, tiny_config, tiny_phi};
    use crate::write::{NewTensor, write_tensors};

    const TENSORS: &str = "adapter_model.safetensors";

    fn write(folder: &Path, values: &AdapterValues) {
        values.write_matrices(&folder.join(TENSORS), &tiny_phi()).unwrap();
        std::fs::write(folder.join("adapter_config.json"), values.settings_json("phi")).unwrap();
    }

    /// Random additions; in layer 1 the key and gate projections have none, others have another rank and scale.
    fn some() -> AdapterValues {
        use LayerWeightName as W;
        let (four, two) = (random_adapter(&tiny_phi(), 4, 9), random_adapter(&tiny_phi(), 2, 8));
        let chosen = four.additions().iter().zip(two.additions()).filter_map(|(four, two)| {
            match (four.layer, four.projection) {
                (1, W::Key | W::Gate) => None,
                // Half the scale of its module: a power of two loses nothing.
                (1, W::Value) => Some(LowRankValues { scale: 0.25, ..two.clone() }),
                (1, W::Down) => Some(two.clone()),
                _ => Some(four.clone()),
            }
        });
        AdapterValues::new(Path::new("test"), &tiny_phi(), chosen.collect()).unwrap()
    }

    #[test]
    fn an_adapter_to_a_fused_model_is_read_as_it_was_written() {
        for values in [random_adapter(&tiny_phi(), 4, 9), some()] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), &values);
            let read = AdapterValues::open(folder.path(), &tiny_phi()).unwrap();
            assert_eq!(read.additions().len(), values.additions().len());
            for (read, written) in read.additions().iter().zip(values.additions()) {
                // The product is the same where the scale of its module is another.
                let factor = written.scale / read.scale;
                let up: Vec<f32> = written.up.iter().map(|value| value * factor).collect();
                let expected = LowRankValues { up, scale: read.scale, ..written.clone() };
                assert_eq!(*read, expected);
            }
        }
    }

    #[test]
    fn an_adapter_to_a_fused_model_has_the_modules_that_peft_has() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &random_adapter(&tiny_phi(), 4, 9));
        let bytes = std::fs::read(folder.path().join(TENSORS)).unwrap();
        let header = parse_header(&bytes).unwrap();
        let shapes: BTreeMap<&str, &[usize]> = header
            .tensors()
            .iter()
            .filter_map(|tensor| {
                Some((tensor.name.strip_prefix("base_model.model.model.layers.1.")?, &tensor.shape[..]))
            })
            .collect();
        let expected: [(&str, &[usize]); 8] = [
            ("mlp.down_proj.lora_A.weight", &[4, 96]),
            ("mlp.down_proj.lora_B.weight", &[64, 4]),
            ("mlp.gate_up_proj.lora_A.weight", &[8, 64]),
            ("mlp.gate_up_proj.lora_B.weight", &[192, 8]),
            ("self_attn.o_proj.lora_A.weight", &[4, 64]),
            ("self_attn.o_proj.lora_B.weight", &[64, 4]),
            ("self_attn.qkv_proj.lora_A.weight", &[12, 64]),
            ("self_attn.qkv_proj.lora_B.weight", &[128, 12]),
        ];
        assert_eq!(shapes, BTreeMap::from(expected));
        let text = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
        let settings: Value = serde_json::from_str(&text).unwrap();
        // Alpha / rank is 0.5 everywhere.
        assert_eq!((&settings["r"], &settings["lora_alpha"]), (&json!(12), &json!(6)));
        let modules = json!(["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]);
        assert_eq!(settings["target_modules"], modules);
        let of = |patterns: &str, module: &str| settings[patterns][regex::escape(module)].as_f64();
        let module = "model.layers.1.mlp.gate_up_proj";
        assert_eq!((of("rank_pattern", module), of("alpha_pattern", module)), (Some(8.0), Some(4.0)));
        assert_eq!(of("rank_pattern", "model.layers.1.self_attn.qkv_proj"), None);
        // Other families' modules stay what they are.
        let plain: Value =
            serde_json::from_str(&random_adapter(&tiny_config(), 4, 9).settings_json("tiny")).unwrap();
        assert_eq!((&plain["r"], plain["rank_pattern"].as_object().unwrap().len()), (&json!(4), 0));
        assert_eq!(plain["target_modules"].as_array().unwrap().len(), 7);
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// The q, k and v projections of layer 1 adapted as one module with rank 3, as `peft` saves it, with magnitudes or without.
    fn saved_by_peft(folder: &Path, has_magnitudes: bool) {
        let settings = json!({"peft_type": "LORA", "r": 8, "rank_pattern": {"qkv_proj": 3}, "lora_alpha": 6, "use_dora": has_magnitudes});
        std::fs::write(folder.join("adapter_config.json"), settings.to_string()).unwrap();
        let tensor = |part: &str, shape: &[usize]| NewTensor {
            name: format!("base_model.model.model.layers.1.self_attn.qkv_proj.{part}"),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        let mut tensors = vec![tensor("lora_A.weight", &[3, 64]), tensor("lora_B.weight", &[128, 3])];
        tensors.extend(has_magnitudes.then(|| tensor("lora_magnitude_vector", &[128])));
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&folder.join(TENSORS), &tensors, &metadata, &mut |index, out| {
            let values = numbers(tensors[index].shape.iter().product(), index);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write(&bytes)
        })
        .unwrap();
    }

    #[test]
    fn a_module_that_peft_adapted_as_a_whole_is_an_addition_to_each_of_its_projections() {
        use LayerWeightName as W;
        let folder = tempfile::tempdir().unwrap();
        saved_by_peft(folder.path(), false);
        let values = AdapterValues::open(folder.path(), &tiny_phi()).unwrap();
        let up = numbers(128 * 3, 1);
        let expected =
            [(W::Query, 0..64), (W::Key, 64..96), (W::Value, 96..128)].map(|(projection, rows)| {
                let up = up[rows.start * 3..rows.end * 3].to_vec();
                LowRankValues { layer: 1, projection, rank: 3, down: numbers(3 * 64, 0), up, scale: 2.0 }
            });
        assert_eq!(values.additions(), expected);
        let merge = AdapterMerge::open(folder.path(), &tiny_phi()).unwrap();
        let weights: Vec<WeightName> = merge.changes.keys().copied().collect();
        assert_eq!(weights, [W::Query, W::Key, W::Value].map(|projection| WeightName::Layer(1, projection)));
        for (change, addition) in merge.changes.values().zip(&expected) {
            let product = change.product.as_ref().unwrap();
            assert_eq!((&product.down, &product.up, product.scale), (&addition.down, &addition.up, 2.0));
        }
    }

    #[test]
    fn magnitudes_of_a_whole_module_are_those_of_the_rows_of_each_projection() {
        let folder = tempfile::tempdir().unwrap();
        saved_by_peft(folder.path(), true);
        let merge = AdapterMerge::open(folder.path(), &tiny_phi()).unwrap();
        let of_all = numbers(128, 2);
        for (change, rows) in merge.changes.values().zip([0..64, 64..96, 96..128]) {
            assert_eq!(change.magnitude.as_deref(), Some(&of_all[rows]));
        }
    }

    /// Merging has no use for the heights of blocks, and nothing else comes out without them.
    #[test]
    fn what_was_written_for_a_fused_model_is_merged_as_it_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &some());
        let (read, own) =
            (AdapterMerge::open(folder.path(), &tiny_phi()).unwrap(), AdapterMerge::from(some()));
        let mut compared = 0;
        for name in tiny_phi().weights() {
            let [rows, columns] = tiny_phi().shape(name)[..] else { continue };
            let changed = |merge: &AdapterMerge, row| {
                let mut out = numbers(columns, row);
                merge.changes.get(&name).into_iter().for_each(|change| change.apply(row, &mut out));
                out
            };
            assert!((0..rows).all(|row| changed(&read, row) == changed(&own, row)), "{name:?}");
            compared += usize::from(own.changes.contains_key(&name));
        }
        assert_eq!(compared, 12);
    }

    /// Another program may have gone on training what was written here.
    #[test]
    fn blocks_that_are_none_any_more_are_read_whole() {
        let weights = fused_weights("model.layers.0.mlp.gate_up_proj.weight", &tiny_phi());
        assert_eq!(weights.len(), 2);
        let product = |changed: Option<usize>| {
            let mut up: Vec<f32> =
                (0..192).flat_map(|row| if row < 96 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
            changed.into_iter().for_each(|place| up[place] = 0.5);
            WholeProduct { rank: 2, down: numbers(2 * 64, 0), up, scale: 1.0 }
        };
        let ranks = |changed, heights: Option<Vec<usize>>| {
            let additions = product(changed).split(&weights, heights);
            additions.iter().map(|addition| addition.rank).collect::<Vec<_>>()
        };
        assert_eq!(ranks(None, Some(vec![1, 1])), [1, 1]);
        assert_eq!(ranks(None, None), [2, 2]);
        // Elements outside the blocks, and heights of something else.
        for (changed, heights) in [
            (Some(1), vec![1, 1]),
            (Some(191 * 2), vec![1, 1]),
            (None, vec![1]),
            (None, vec![1, 2]),
            (None, vec![2, 0]),
        ] {
            assert_eq!(ranks(changed, Some(heights.clone())), [2, 2], "{changed:?} {heights:?}");
        }
        assert_eq!(
            (read_heights("4 0 12"), read_heights("4  12"), read_heights("-1")),
            (Some(vec![4, 0, 12]), None, None)
        );
        assert_eq!(read_heights("1 18446744073709551615"), None);
    }

    #[test]
    fn a_module_of_another_layer_or_of_another_family_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        saved_by_peft(folder.path(), false);
        let small = ModelConfig { layers: 1, ..tiny_phi() };
        for config in [small, tiny_config()] {
            for text in [
                AdapterValues::open(folder.path(), &config).unwrap_err().to_string(),
                AdapterMerge::open(folder.path(), &config).unwrap_err().to_string(),
            ] {
                assert!(
                    text.contains("model.layers.1.self_attn.qkv_proj") && text.contains("has no "),
                    "{text}"
                );
            }
        }
    }
}
