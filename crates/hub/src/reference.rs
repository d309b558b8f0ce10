//! How users name a model: a name of the catalogue, or `hf:OWNER/REPOSITORY[:FILE]`.
//! This file does not know what exists.

use std::fmt;

use crate::ModelStoreError;

/// A model's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// A name of the catalogue.
    Catalogue(String),
    /// Any repository of the Hugging Face hub.
    HuggingFace {
        /// `OWNER/NAME`.
        repository: String,
        /// A file in it; without it the repository must hold one model only.
        file: Option<String>,
    },
}

impl ModelReference {
    /// Takes a name apart.
    ///
    /// # Errors
    /// [`ModelStoreError::BadName`] for a name with characters that no hub allows, or a path that leaves its folder.
    pub fn parse(name: &str) -> Result<ModelReference, ModelStoreError> {
        let bad =
            |reason: &str| ModelStoreError::BadName { name: name.to_owned(), reason: reason.to_owned() };
        let Some(rest) = name.strip_prefix("hf:") else {
            let is_plain = |part: &str| {
                !part.is_empty() && part.chars().all(is_name_character) && !part.starts_with('.')
            };
            return if name.split(':').count() <= 2 && name.split(':').all(is_plain) {
                Ok(ModelReference::Catalogue(name.to_owned()))
            } else {
                Err(bad(
                    "expected a name such as smollm2:135m, hf:OWNER/REPOSITORY, or hf:OWNER/REPOSITORY:FILE",
                ))
            };
        };
        let (repository, file) = match rest.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (rest, None),
        };
        let parts: Vec<&str> = repository.split('/').collect();
        let is_part =
            |part: &&str| !part.is_empty() && part.chars().all(is_name_character) && !part.starts_with('.');
        if parts.len() != 2 || !parts.iter().all(is_part) {
            return Err(bad("expected hf:OWNER/REPOSITORY or hf:OWNER/REPOSITORY:FILE"));
        }
        if let Some(file) = file
            && !is_safe_path(file)
        {
            return Err(bad("the file must be a path inside the repository"));
        }
        Ok(ModelReference::HuggingFace { repository: repository.to_owned(), file: file.map(str::to_owned) })
    }

    /// The name of the model's folder in the store, which no other model has: `:` and `/` become `--`, so a `-` beside another one or
    /// beside those becomes `%2D`, and `%` becomes `%25`. (Which of the two a `--` stands for, its place tells.)
    pub fn folder_name(&self) -> String {
        let name: Vec<char> = self.to_string().chars().collect();
        let becomes_hyphens = |place: Option<usize>| {
            place
                .and_then(|place| name.get(place))
                .is_some_and(|character| matches!(character, '-' | ':' | '/'))
        };
        let mut folder = String::with_capacity(name.len());
        for (place, &character) in name.iter().enumerate() {
            match character {
                ':' | '/' => folder.push_str("--"),
                '%' => folder.push_str("%25"),
                '-' if becomes_hyphens(place.checked_sub(1)) || becomes_hyphens(Some(place + 1)) => {
                    folder.push_str("%2D");
                }
                other => folder.push(other),
            }
        }
        folder
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelReference::Catalogue(name) => formatter.write_str(name),
            ModelReference::HuggingFace { repository, file: None } => write!(formatter, "hf:{repository}"),
            ModelReference::HuggingFace { repository, file: Some(file) } => {
                write!(formatter, "hf:{repository}:{file}")
            }
        }
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

/// Whether a path from a hub stays inside the folder that it is put into, on every operating system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 512
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part.contains(['\\', ':', '*', '?', '"', '<', '>', '|'])
                && !part.chars().any(char::is_control)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        for name in
            ["smollm2:135m", "qwen2.5:0.5b", "tiny", "hf:owner/repo", "hf:owner/repo:sub/file.Q4_0.gguf"]
        {
            assert_eq!(ModelReference::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(ModelReference::parse("hf:a/b:c/d.gguf").unwrap().folder_name(), "hf--a--b--c--d.gguf");
    }

    #[test]
    fn a_name_with_two_hyphens_has_a_folder_of_its_own() {
        let folder = |name: &str| ModelReference::parse(name).unwrap().folder_name();
        assert_eq!(folder("smollm2:135m"), "smollm2--135m");
        assert_eq!(folder("smollm2--135m"), "smollm2%2D%2D135m");
        assert_eq!((folder("a-:b"), folder("a:-b")), ("a%2D--b".to_owned(), "a--%2Db".to_owned()));
        assert_eq!(folder("hf:a-b/c:d%2D.gguf"), "hf--a-b--c--d%252D.gguf");
    }

    proptest! {
        #[test]
        fn two_names_never_have_one_folder(
            one in "(hf:)?[a.%-]{1,4}([:/][a.%-]{1,3}){0,3}",
            other in "(hf:)?[a.%-]{1,4}([:/][a.%-]{1,3}){0,3}",
        ) {
            if let (Ok(first), Ok(second)) = (ModelReference::parse(&one), ModelReference::parse(&other)) {
                prop_assert_eq!(one == other, first.folder_name() == second.folder_name(), "{} {}", one, other);
                prop_assert!(!first.folder_name().contains(['/', ':']));
            }
        }

        #[test]
        fn a_name_and_its_likes_never_have_one_folder(
            parts in proptest::collection::vec("[a-]{1,3}", 1..5), first in 0usize..3, second in 0usize..3,
        ) {
            // The same parts put together in other ways: what the old names confused.
            let join = |way: usize| match way {
                0 => parts.join("--"),
                1 => parts.join(":"),
                _ => format!("hf:{}", parts.join("/")),
            };
            let (one, other) = (join(first), join(second));
            if let (Ok(a), Ok(b)) = (ModelReference::parse(&one), ModelReference::parse(&other)) {
                prop_assert_eq!(one == other, a.folder_name() == b.folder_name(), "{} {}", one, other);
            }
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in [
            "",
            ":",
            "..",
            "a/b",
            "hf:",
            "hf:a",
            "hf:a/b/c",
            "hf:../x",
            "hf:a/..",
            "hf:a/b:../x",
            "hf:a/b:/etc/x",
            "a:b:c",
            "hf:a/b:",
            "hf:a/b:c\\d",
            "-:\u{0}",
        ] {
            assert!(ModelReference::parse(name).is_err(), "{name:?}");
        }
    }
}
