//! One operator at one cluster: runs `scrapctl` and compares what it says with what is expected.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use expect_test::expect_file;
use scrap_tests::cluster::{Cluster, program};
use tempfile::TempDir;

use crate::redact::{Level, Redact};

/// What a command left behind.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A home without settings, at a cluster.
pub(crate) struct Terminal {
    home: TempDir,
    servers: String,
    redact: Redact,
    /// Folder of what is expected, below `tests/cli`.
    folder: &'static str,
}

impl Terminal {
    pub(crate) fn new(cluster: &Cluster, folder: &'static str) -> anyhow::Result<Self> {
        let servers: Vec<String> =
            cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.api)).collect();
        let home = tempfile::tempdir_in("/tmp")?;
        let mut redact = Redact::default();
        for node in &cluster.nodes {
            redact.replace(&format!("127.0.0.1:{}", node.api), &format!("[api of {}]", node.name));
            redact
                .replace(&format!("127.0.0.1:{}", node.peer), &format!("[peer of {}]", node.name));
        }
        let programs = program("scrapd")?;
        let programs = programs.parent().context("a program lies in a folder")?.to_owned();
        redact.replace(&programs.display().to_string(), "[programs]");
        redact.replace(&home.path().display().to_string(), "[home]");
        Ok(Self { home, servers: servers.join(","), redact, folder })
    }

    /// Replaces a text that differs from run to run.
    pub(crate) fn replace(&mut self, text: &str, with: &str) {
        self.redact.replace(text, with);
    }

    /// Writes a file into the home.
    pub(crate) fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.home.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs `scrapctl` with these words and this text on its standard input.
    pub(crate) fn run(&self, words: &[&str], input: &str) -> anyhow::Result<Ran> {
        let mut command = Command::new(program("scrapctl")?);
        command.env_clear().env("HOME", self.home.path()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("SCRAP_SERVER", &self.servers).current_dir(self.home.path()).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start scrapctl")?;
        let mut stdin = child.stdin.take().context("scrapctl has no input")?;
        // A command that reads nothing has closed its end.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(Ran { status: output.status.code().unwrap_or(-1), stdout, stderr })
    }

    /// Runs it and compares with the file of this name.
    pub(crate) fn golden(&self, name: &str, words: &[&str]) -> anyhow::Result<Ran> {
        self.compare(Level::Usual, name, words, "")
    }

    /// The same where nothing differs from run to run.
    pub(crate) fn exact(&self, name: &str, words: &[&str]) -> anyhow::Result<Ran> {
        self.compare(Level::Exact, name, words, "")
    }

    /// The same where every number is measured.
    pub(crate) fn rough(&self, name: &str, words: &[&str]) -> anyhow::Result<Ran> {
        self.compare(Level::Numbers, name, words, "")
    }

    /// The same with a text on its standard input.
    pub(crate) fn compare(
        &self,
        level: Level,
        name: &str,
        words: &[&str],
        input: &str,
    ) -> anyhow::Result<Ran> {
        let ran = self.run(words, input)?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli").join(self.folder);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.txt"));
        let words = self.redact.line(&words.join(" "), Level::Exact);
        let stdout = self.redact.text(&ran.stdout, level);
        let stderr = self.redact.text(&ran.stderr, level);
        let text = format!(
            "$ scrapctl {words}\nexit {status}\n-- stdout\n{stdout}-- stderr\n{stderr}",
            status = ran.status
        );
        expect_file![path].assert_eq(&text);
        Ok(ran)
    }
}
