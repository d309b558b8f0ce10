//! Makes sure that the folder which `pages.rs` embeds exists, so that the program builds before `web/` was ever built.

use std::path::Path;

const PLACEHOLDER: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Zhenjin</title></head>
<body>
<h1>Zhenjin</h1>
<p>This program was built without its web interface. Run <code>make web</code> and build again to have it here.</p>
<p>The programming interface works as usual: see <a href="docs">/docs</a>.</p>
</body>
</html>
"#;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", folder.display());
    if !folder.join("index.html").exists() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("index.html"), PLACEHOLDER)?;
    }
    Ok(())
}
