//! The small real model, for the tests of several crates, which take this file in by its path.

use std::path::PathBuf;

/// The model that `make test` provides: `ZHENJIN_TEST_MODEL`, or the fetched one. Fails when it is not there: a test that
/// needs it must not pass without it.
pub(crate) fn real_model() -> PathBuf {
    const FILE: &str = "models/smollm2--135m/SmolLM2-135M-Instruct.Q4_1.gguf";
    let given = std::env::var_os("ZHENJIN_TEST_MODEL").map(PathBuf::from);
    let home = || std::env::var_os("ZHENJIN_HOME").map(PathBuf::from);
    let default = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share/zhenjin"));
    let path = given.or_else(|| home().or_else(default).map(|home| home.join(FILE))).unwrap_or_default();
    assert!(
        path.is_file(),
        "{}: no such file; `make test` fetches it, or set ZHENJIN_TEST_MODEL",
        path.display()
    );
    path
}
