//! What the suites share. Nothing here is part of the product.

#[cfg(target_os = "linux")]
pub mod chaos;
pub mod cluster;
#[cfg(target_os = "linux")]
pub mod platform;
pub mod random;
pub mod sim;

/// The commit that this is built from, as far as the tree says.
#[must_use]
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments);
        command.output().ok().filter(|output| output.status.success())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|output| !output.stdout.is_empty());
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    if changed { format!("{head}+changes") } else { head }
}
