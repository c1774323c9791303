//! Where the project is.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The folder that holds the workspace's `Cargo.toml`.
///
/// Cargo names this package's folder while it runs it; the root is the one above. Asked at run time and not at
/// compile time, so that a binary shared between two checkouts works on the one it was called in. A binary started
/// without cargo climbs from the current folder.
///
/// # Errors
/// When it is run outside the project.
pub fn root() -> Result<PathBuf, Failure> {
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&package).parent()
    {
        return Ok(root.to_owned());
    }
    let here =
        std::env::current_dir().map_err(|error| Failure::new(format!("the current folder cannot be read ({error}); change to another")))?;
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_owned)
        .ok_or_else(|| Failure::new("this is not inside the project; change to its folder and try again"))
}
