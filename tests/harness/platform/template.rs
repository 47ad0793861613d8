//! Templates for platform tests: cooked by the recipes, kept for the next time, imported by the operator's own command.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::Lab;
use super::book::Kind;

/// The folder of recipes and of what is put on top.
fn lab_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

/// Cooks the template of a book, with these packages more. Returns its file.
///
/// # Errors
/// If the recipe fails.
pub async fn cook(kind: Kind, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let overlay = lab_folder().join("overlays").join(kind.template());
    let mut command = Command::new(lab_folder().join("recipes").join(kind.template()));
    command.arg("--overlay").arg(overlay).stdin(Stdio::null());
    if !packages.is_empty() {
        command.args(["--packages", &packages.join(",")]);
    }
    let output = command.output().await.context("cannot start the recipe")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the recipe {} failed: {complaint}", kind.template());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

impl Lab {
    /// Imports the template of a book under its own name.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn import(&self, kind: Kind, file: &Path) -> anyhow::Result<()> {
        let file = file.display().to_string();
        self.ctl(&["template", "import", kind.template(), &file]).await.map(drop)
    }
}
