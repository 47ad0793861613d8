//! A machine that was a node becomes another one: what it was is moved aside, what it has of grains stays. Removes nothing.

use anyhow::Context as _;
use scrap_schema::id::NodeId;

use super::refused;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::identity::{FILE, LEFT_BEHIND, RECOVERING};

/// Takes the data folder of a machine that was a node, or that was on its way to become one again.
pub(super) fn used_data_dir(config: &Config) -> anyhow::Result<DataDir> {
    let data_dir = DataDir::take(&config.data_dir)?;
    if let Some(stranger) = data_dir.entries()?.iter().find(|name| !is_known(name)) {
        let what =
            format!("`{}` holds `{stranger}`, which is of no node", data_dir.path().display());
        return Err(refused(what, "move it out of this folder, then try again"));
    }
    Ok(data_dir)
}

/// What makes a node the one that it is.
fn is_of_the_node(name: &str) -> bool {
    let marks = [FILE, LEFT_BEHIND, RECOVERING, "node.json.new"];
    let databases = ["raft.db", "state.db", "snapshot-"];
    marks.contains(&name) || databases.iter().any(|prefix| name.starts_with(prefix))
}

fn is_known(name: &str) -> bool {
    let kept = ["former-", "before-recovery-"];
    is_of_the_node(name)
        || name == "pool"
        || name.contains(".tmp")
        || kept.iter().any(|prefix| name.starts_with(prefix))
}

/// Moves what this machine was into a folder beside it, named by what it becomes. The identity goes first: without it nothing runs. If
/// it is interrupted, the rest is moved by the next try.
pub(super) fn set_aside(data_dir: &DataDir, becomes: NodeId) -> anyhow::Result<()> {
    let aside = data_dir.path().join(format!("former-{becomes}"));
    let made = || format!("cannot make `{}`", aside.display());
    std::fs::create_dir_all(&aside).with_context(made)?;
    let mut names: Vec<String> =
        data_dir.entries()?.into_iter().filter(|name| is_of_the_node(name)).collect();
    names.sort_by_key(|name| name != FILE);
    for name in names {
        let (from, to) = (data_dir.path().join(&name), aside.join(&name));
        let moved = || format!("cannot move `{}` to `{}`", from.display(), aside.display());
        std::fs::rename(&from, &to).with_context(moved)?;
    }
    std::fs::File::open(data_dir.path()).and_then(|folder| folder.sync_all()).with_context(made)?;
    tracing::info!(aside = %aside.display(), "what this machine was is set aside");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_was_goes_aside_and_its_data_stay() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::take(dir.path()).unwrap();
        let files =
            ["node.json", "raft.db", "raft.db-wal", "state.db", "snapshot-1-1-1.db", "left.behind"];
        for file in files {
            std::fs::write(dir.path().join(file), file).unwrap();
        }
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        set_aside(&data_dir, NodeId(5)).unwrap();
        assert_eq!(data_dir.entries().unwrap(), ["former-5", "pool"]);
        for file in files {
            let kept = std::fs::read_to_string(dir.path().join("former-5").join(file)).unwrap();
            assert_eq!(kept, file);
        }
        // Interrupted and begun again.
        set_aside(&data_dir, NodeId(5)).unwrap();
        assert_eq!(data_dir.entries().unwrap(), ["former-5", "pool"]);
    }

    #[test]
    fn a_folder_with_something_strange_in_it_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "data_dir = \"{}\"\nrun_dir = \"/run/s\"\nname = \"bob\"",
            dir.path().display()
        );
        let config = Config::parse(&text).unwrap();
        std::fs::write(dir.path().join("node.json"), "").unwrap();
        assert!(used_data_dir(&config).is_ok());
        std::fs::write(dir.path().join("thesis.odt"), "").unwrap();
        let error = used_data_dir(&config).unwrap_err().to_string();
        assert!(error.contains("thesis.odt"), "{error}");
    }
}
