//! From a run to a checkpoint and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zhenjin_model::write::{WrittenFile, config_json, write_safetensors};
use zhenjin_model::{ModelError, ModelFile, Weight, Weights};

use super::{Trainer, tell};
use crate::checkpoint::{
    Best, Checkpoint, CheckpointError, FileSum, OPTIMISER_FILE, OptimiserFile, RunState, WEIGHTS_FILE,
    hexadecimal, write_file, write_optimiser,
};
use crate::configuration::{Configuration, differing_keys};
use crate::error::TrainError;
use crate::metrics::{Event, Observer};
use crate::optimiser::StateTensor;

const CONFIG_FILE: &str = "config.json";

impl Trainer {
    /// Remembers the coming checkpoint as the best if its validation loss is lower than all before.
    pub(super) fn note_best(&mut self, loss: Option<f64>) {
        let is_lower = |loss: &f64| self.state.best.is_none_or(|best| *loss < best.loss());
        if let Some(loss) = loss.filter(is_lower) {
            self.state.best = Some(Best { step: self.state.step, loss_bits: loss.to_bits() });
        }
    }

    /// Saves a checkpoint unless there is one of this step: it would be replaced by itself.
    pub(super) fn save_before_a_stop(
        &mut self,
        observers: &mut [Box<dyn Observer>],
    ) -> Result<(), TrainError> {
        let is_saved = self.saved_step == Some(self.state.step);
        // The first rank decides: the others may see its folder later.
        let ranks = self.setup.ranks.clone();
        let decided = ranks.of_first(|| Ok::<_, TrainError>(vec![u8::from(is_saved)]))?;
        if decided[..] == [1] {
            return Ok(observers.iter_mut().try_for_each(|observer| observer.flush())?);
        }
        self.save(observers, true)
    }

    /// Saves a checkpoint. Where it cannot be saved and is not `needed`, the observers are told and the run goes on.
    pub(super) fn save(
        &mut self,
        observers: &mut [Box<dyn Observer>],
        needed: bool,
    ) -> Result<(), TrainError> {
        let state = RunState { window: self.window.to_bits(), ..self.state.clone() };
        let step = state.step;
        let ranks = self.setup.ranks.clone();
        ranks.compare(&self.model.weights, step)?;
        let whole = ranks.whole_state(&self.exchange, &self.optimiser)?;
        if !ranks.is_first() {
            let path = ranks.of_first(|| Ok::<_, TrainError>(Vec::new()))?;
            if let Some(path) = String::from_utf8(path).ok().filter(|path| !path.is_empty()) {
                self.last_checkpoint = Some(PathBuf::from(path));
                self.saved_step = Some(step);
                self.rollbacks = 0;
            }
            return Ok(());
        }
        let mut flushed = Ok(());
        let saved =
            self.checkpoints.save(state, &mut |folder| self.write(folder, whole.as_deref()), &mut || {
                flushed = observers.iter_mut().try_for_each(|observer| observer.flush());
                match &flushed {
                    Ok(()) => Ok(()),
                    Err(error) => Err(CheckpointError::Damaged {
                        path: PathBuf::from("the run's log"),
                        problem: error.to_string(),
                    }),
                }
            });
        flushed?;
        if saved.is_ok() || !needed {
            // Where it was not saved, the others hear of no path.
            let path = saved.as_ref().ok().and_then(|path| path.to_str()).unwrap_or_default();
            ranks.of_first(|| Ok::<_, TrainError>(path.as_bytes().to_vec()))?;
        }
        match saved {
            Ok(path) => {
                tell(observers, &Event::Checkpoint { step, path: path.clone() })?;
                self.last_checkpoint = Some(path);
                self.saved_step = Some(step);
                self.rollbacks = 0;
                Ok(())
            }
            Err(error) if needed => Err(error.into()),
            Err(error) => {
                let before = match &self.last_checkpoint {
                    Some(path) => format!("the one before it stays: {}", path.display()),
                    None => "there is none before it".to_owned(),
                };
                let text =
                    format!("no checkpoint was saved: {error}; {before}; it is tried again at the next one");
                tell(observers, &Event::Note { step, text })
            }
        }
    }

    /// Writes all files of a checkpoint but its state.
    fn write(
        &self,
        folder: &Path,
        whole: Option<&[(String, Vec<f32>)]>,
    ) -> Result<BTreeMap<String, FileSum>, CheckpointError> {
        let mut files = BTreeMap::new();
        let weights = write_safetensors(
            &folder.join(WEIGHTS_FILE),
            &self.config,
            &self.model.weights,
            &BTreeMap::new(),
        )?;
        files.insert(WEIGHTS_FILE.to_owned(), sum(weights));
        let state: Vec<StateTensor<'_>> = match whole {
            None => self.optimiser.state().collect(),
            Some(arrays) => {
                fn tensor((name, values): &(String, Vec<f32>)) -> StateTensor<'_> {
                    StateTensor { name: name.clone(), elements: 0..values.len(), values }
                }
                arrays.iter().map(tensor).collect()
            }
        };
        files.insert(OPTIMISER_FILE.to_owned(), sum(write_optimiser(&folder.join(OPTIMISER_FILE), &state)?));
        let config = self.config_text(folder)?;
        files.insert(CONFIG_FILE.to_owned(), write_file(folder, CONFIG_FILE, config.as_bytes())?);
        for (name, contents) in &self.setup.companions {
            files.insert(name.clone(), write_file(folder, name, contents)?);
        }
        Ok(files)
    }

    /// Whether the run would have come to the same weights by now with the settings of `theirs`.
    fn may_differ(&self, keys: &[(String, String, String)], theirs: &Configuration, step: u64) -> bool {
        let (ours, theirs) = (&self.configuration.schedule, &theirs.schedule);
        keys.iter().all(|(key, ..)| key.starts_with("intervals.") || key.starts_with("schedule."))
            && step <= ours.steps
            && (0..step).all(|step| ours.factor(step) == theirs.factor(step))
    }

    /// Takes over a checkpoint of the same configuration and data. Intervals may differ, and so may the schedule where the steps
    /// so far had the same learning rates: in the stable phase of WSD a run can be made longer or shorter.
    pub(super) fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let (path, state) = (&checkpoint.path, &checkpoint.state);
        let theirs = Configuration::from_toml(&state.configuration, path)?;
        let keys = differing_keys(&self.configuration, &theirs);
        if !keys.is_empty() && !self.may_differ(&keys, &theirs, state.step) {
            return Err(TrainError::OtherConfiguration { checkpoint: path.clone(), keys });
        }
        let fingerprint = self.setup.source.fingerprint();
        if state.data != fingerprint {
            let (ours, theirs) = (fingerprint, state.data.clone());
            return Err(TrainError::OtherData { checkpoint: path.clone(), ours, theirs });
        }
        let file = ModelFile::open(path)?;
        if *file.config() != self.config {
            let problem = "its config.json is not the one of its configuration".to_owned();
            return Err(CheckpointError::Damaged { path: path.clone(), problem }.into());
        }
        let weights = Weights::load(&self.config, &file, &self.setup.load)?;
        self.model_mut()?.weights = weights;
        let arrays = OptimiserFile::open(&path.join(OPTIMISER_FILE))?;
        self.optimiser
            .restore(state.updates, |name| arrays.array(name))
            .map_err(|error| TrainError::State { checkpoint: path.clone(), error })?;
        self.window.restore(&state.window);
        // A checkpoint in another folder, or one with another schedule, does not say how this run goes on.
        let is_own = state.configuration == self.state.configuration && self.checkpoints.holds(checkpoint);
        self.saved_step = is_own.then_some(state.step);
        self.state = RunState {
            files: BTreeMap::new(),
            window: Vec::new(),
            configuration: self.state.configuration.clone(),
            ..state.clone()
        };
        self.last_checkpoint = Some(path.clone());
        Ok(())
    }

    /// Writes the moving average of the weights, if there is one, as a model of its own into `folder`.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when the disk refuses.
    pub fn write_average(&self, folder: &Path) -> Result<bool, TrainError> {
        let whole = self.setup.ranks.whole_state(&self.exchange, &self.optimiser)?;
        if self.optimiser.averages().next().is_none() || !self.setup.ranks.is_first() {
            return Ok(false);
        }
        std::fs::create_dir_all(folder).map_err(|source| CheckpointError::Io {
            action: "make",
            path: folder.to_owned(),
            source,
        })?;
        // A second copy of the weights, whose values are replaced.
        let mut weights = self.copy_of_weights()?;
        let mut values = Vec::new();
        for (_, weight) in weights.parameters_mut() {
            values.push(match weight {
                Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
                Weight::Vector(vector) => &mut vector[..],
            });
        }
        for (parameter, offset, average) in self.optimiser.averages() {
            values[parameter][offset..offset + average.len()].copy_from_slice(average);
        }
        for (description, values) in self.optimiser.descriptions().iter().zip(&mut values) {
            let name = format!("{}/average", description.name);
            let average = whole.iter().flatten().find(|(found, _)| *found == name);
            average.into_iter().for_each(|(_, average)| values.copy_from_slice(average));
        }
        write_safetensors(&folder.join(WEIGHTS_FILE), &self.config, &weights, &BTreeMap::new())?;
        let config = self.config_text(folder)?;
        let mut files = vec![(CONFIG_FILE, config.as_bytes())];
        files.extend(self.setup.companions.iter().map(|(name, contents)| (name.as_str(), &contents[..])));
        for (name, contents) in files {
            std::fs::write(folder.join(name), contents).map_err(|source| CheckpointError::Io {
                action: "write",
                path: folder.join(name),
                source,
            })?;
        }
        Ok(true)
    }

    fn config_text(&self, folder: &Path) -> Result<String, CheckpointError> {
        let config = config_json(&self.config).map_err(|error| CheckpointError::Damaged {
            path: folder.join(CONFIG_FILE),
            problem: error.to_string(),
        })?;
        Ok(format!("{config:#}\n"))
    }

    fn copy_of_weights(&self) -> Result<Weights, ModelError> {
        let rule = zhenjin_model::InitialisationRule::default();
        zhenjin_model::initialise(&self.config, &rule, self.configuration.seed, &self.setup.load)
    }
}

fn sum(written: WrittenFile) -> FileSum {
    FileSum { bytes: written.bytes, sha256: hexadecimal(&written.sha256) }
}
