//! One file of a model: a GGUF file or a safetensors file, with the same view of its tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;
use zhenjin_tensor::{Dtype, dequantise};

use crate::errors::{FormatError, ModelError, quoted};
use crate::gguf::{self, Gguf, GgufTensor};
use crate::safetensors::{self, Header, TensorRecord};

/// A tensor as it lies in a file.
#[derive(Debug, Clone, Copy)]
pub struct FileTensor<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// The file's name for the element type, such as `Q4_1`.
    pub type_name: &'static str,
    /// The element type, if a weight may have it.
    pub dtype: Option<Dtype>,
    /// Outermost dimension first.
    pub shape: &'a [usize],
    /// The elements or quantised blocks, row-major.
    pub bytes: &'a [u8],
    /// The file that holds it.
    pub file: &'a Path,
    /// Where in the file the data begins.
    pub(crate) offset: usize,
}

impl FileTensor<'_> {
    pub(super) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes.len()
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// [`ModelError::Format`] naming the tensor for a type that is no weight's, or an element that is not finite.
    pub(crate) fn values(&self) -> Result<Vec<f32>, ModelError> {
        let Some(dtype) = self.dtype else {
            let problem =
                format!("type {} is not supported; supported are F32, F16 and BF16", self.type_name);
            return Err(self.fault(problem));
        };
        let mut values = vec![0.0; self.shape.iter().product()];
        dequantise(dtype, self.bytes, &mut values).map_err(|error| self.fault(error.to_string()))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(self.fault(format!("element {place} is {}", values[place]))),
            None => Ok(values),
        }
    }

    /// What is wrong with the tensor.
    pub(crate) fn fault(&self, problem: impl Into<String>) -> ModelError {
        fault(self.file, FormatError::new(format!("tensor {}", quoted(self.name)), problem))
    }
}

/// One file of a model.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) contents: Contents,
}

#[derive(Debug)]
pub(super) enum Contents {
    Gguf(Gguf<Mapping>),
    Safetensors(Mapping, Header),
}

impl Part {
    pub(super) fn open_gguf(path: &Path) -> Result<Part, ModelError> {
        let gguf = gguf::parse(Mapping::open(path)?).map_err(|error| fault(path, error))?;
        Ok(Part { path: path.to_owned(), contents: Contents::Gguf(gguf) })
    }

    pub(super) fn open_safetensors(path: &Path) -> Result<Part, ModelError> {
        let mapping = Mapping::open(path)?;
        let header = safetensors::parse_header(mapping.as_ref()).map_err(|error| fault(path, error))?;
        Ok(Part { path: path.to_owned(), contents: Contents::Safetensors(mapping, header) })
    }

    pub(super) fn mapping(&self) -> &Mapping {
        match &self.contents {
            Contents::Gguf(gguf) => gguf.bytes(),
            Contents::Safetensors(mapping, _) => mapping,
        }
    }

    /// What the file says beside its tensors; nothing for GGUF files.
    pub(super) fn metadata(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match &self.contents {
            Contents::Gguf(_) => &NONE,
            Contents::Safetensors(_, header) => header.metadata(),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<FileTensor<'_>> {
        match &self.contents {
            Contents::Gguf(gguf) => gguf.tensor(name).map(|tensor| self.gguf_view(tensor)),
            Contents::Safetensors(mapping, header) => {
                header.tensor(name).map(|record| self.safetensors_view(mapping, record))
            }
        }
    }

    pub(super) fn tensors(&self) -> Box<dyn Iterator<Item = FileTensor<'_>> + '_> {
        match &self.contents {
            Contents::Gguf(gguf) => Box::new(gguf.tensors().map(|tensor| self.gguf_view(tensor))),
            Contents::Safetensors(mapping, header) => {
                Box::new(header.tensors().iter().map(move |record| self.safetensors_view(mapping, record)))
            }
        }
    }

    fn gguf_view<'a>(&'a self, tensor: GgufTensor<'a>) -> FileTensor<'a> {
        FileTensor {
            name: tensor.name,
            type_name: tensor.dtype.name(),
            dtype: Some(tensor.dtype),
            shape: tensor.shape,
            bytes: tensor.bytes,
            file: &self.path,
            offset: tensor.offset,
        }
    }

    fn safetensors_view<'a>(&'a self, mapping: &'a Mapping, record: &'a TensorRecord) -> FileTensor<'a> {
        FileTensor {
            name: &record.name,
            type_name: record.element_type.name,
            dtype: record.element_type.dtype,
            shape: &record.shape,
            bytes: &mapping.as_ref()[record.data.clone()],
            file: &self.path,
            offset: record.data.start,
        }
    }
}

pub(crate) fn fault(path: &Path, error: FormatError) -> ModelError {
    ModelError::Format { file: path.to_owned(), error }
}
