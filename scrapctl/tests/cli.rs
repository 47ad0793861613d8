//! The program as people and scripts run it: exit status, stdout and stderr, against nodes that answer, refuse and die.
#![allow(clippy::unwrap_used, reason = "a helper of a test that fails is a test that fails")]

#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/reach.rs"]
mod reach;
#[path = "cli/say.rs"]
mod say;
#[path = "cli/streams.rs"]
mod streams;
#[path = "values/mod.rs"]
mod values;
#[path = "cli/work.rs"]
mod work;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use scrap_schema::problem::{Code, Problem};
use serde::Serialize;
use serde_json::Value;

use crate::fake::Act;

/// What a run of the program left behind.
#[derive(Debug)]
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Everything a reader sees, with addresses that change from run to run replaced.
    fn all(&self, nodes: &[&str]) -> String {
        let mut text = format!("exit {}\n{}", self.status, self.stdout);
        if !self.stderr.is_empty() {
            text.push_str(&format!("-- stderr\n{}", self.stderr));
        }
        for (at, node) in nodes.iter().enumerate() {
            text = text.replace(node, &format!("[node {at}]"));
        }
        text
    }
}

/// A command in a home of its own, with nothing of the environment.
fn command(home: &Path, servers: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scrapctl"));
    command.env_clear().env("HOME", home).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    if !servers.is_empty() {
        command.env("SCRAP_SERVER", servers.join(","));
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run_in(home: &Path, servers: &[&str], args: &[&str]) -> Ran {
    ran(command(home, servers, args).output().unwrap())
}

fn run(servers: &[&str], args: &[&str]) -> Ran {
    run_in(tempfile::tempdir().unwrap().path(), servers, args)
}

fn run_with_stdin(servers: &[&str], args: &[&str], stdin: &[u8]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = command(home.path(), servers, args);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    ran(child.wait_with_output().unwrap())
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn ok(value: &impl Serialize) -> Act {
    Act::Json(200, json(value))
}

fn accepted(value: &impl Serialize) -> Act {
    Act::Json(202, json(value))
}

fn no(code: Code, status: u16, detail: &str) -> Act {
    Act::Json(status, json(&Problem::new(code, status, detail)))
}

/// Answers of a node that knows its peers and nothing else.
fn elsewhere() -> Act {
    Act::Json(200, Value::Array(Vec::new()))
}
