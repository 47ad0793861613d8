//! A day at the cluster: every command once, against nodes ada, bob and cy.

use scrap_schema::api::{GrainState, OperationView};
use scrap_tests::cluster::grain::{Guestbook, policy};
use scrap_tests::cluster::{Cluster, SOON, Spec, program, wait_for};

use crate::terminal::Terminal;

struct Session {
    cluster: Cluster,
    terminal: Terminal,
}

impl Session {
    async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start(Spec::new(3)).await?;
        let terminal = Terminal::new(&cluster, "session")?;
        Ok(Self { cluster, terminal })
    }

    /// A guestbook on a node, and the file of its manifest.
    fn book(&mut self, name: &str, node: &str) -> anyhow::Result<(Guestbook, String)> {
        let port = self.cluster.port()?;
        self.terminal.replace(&port.to_string(), &format!("[port of {name}]"));
        let book = Guestbook::new(name, port)?.on(node);
        let file = self.terminal.file(&format!("{name}.yaml"), &book.manifest()?)?;
        Ok((book, file.display().to_string()))
    }

    /// Waits until every operation has ended.
    async fn all_ended(&self) -> anyhow::Result<()> {
        wait_for(SOON, "every operation has ended", async || {
            let running: Vec<OperationView> =
                self.cluster.api.get("/v1/operations?state=running").await?;
            Ok(running.is_empty().then_some(()))
        })
        .await
    }

    /// Waits until nothing is under way, so that the next answer is the same every time.
    async fn settled(&self) -> anyhow::Result<()> {
        wait_for(SOON, "nothing is under way", async || {
            let running: Vec<OperationView> =
                self.cluster.api.get("/v1/operations?state=running").await?;
            let cluster = self.cluster.api.cluster().await?;
            let leader_is_ada =
                cluster.leader.as_ref().is_some_and(|leader| leader.as_str() == "ada");
            anyhow::ensure!(leader_is_ada, "the leader has changed: the machine is too slow");
            Ok((running.is_empty() && cluster.waiting.is_empty()).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn empty_cluster_and_nodes() -> anyhow::Result<()> {
    let session = Session::start().await?;
    session.settled().await?;
    let t = &session.terminal;
    t.golden("status-empty", &["status"])?;
    t.golden("ls-empty", &["ls"])?;
    t.rough("node-ls", &["node", "ls"])?;
    t.golden("node-ls-name", &["node", "ls", "-o", "name"])?;
    t.golden("node-info", &["node", "info", "bob"])?;
    t.exact("policy-ls", &["policy", "ls"])?;
    t.exact("policy-info", &["policy", "info", "standard"])?;
    t.golden("orphan-ls-empty", &["orphan", "ls"])?;
    t.golden("op-ls-empty", &["op", "ls"])?;
    t.golden("wait-cluster", &["wait", "cluster", "--for", "quorum"])?;
    t.golden("wait-node", &["wait", "node/cy", "--for", "online"])?;
    t.exact("explain", &["explain", "grain.spec.protect"])?;
    t.exact("context-show", &["context", "show"])?;
    t.golden("node-cordon", &["node", "cordon", "cy"])?;
    t.golden("node-uncordon", &["node", "uncordon", "cy"])?;
    t.golden("api", &["api", "GET", "/v1/policies/prompt"])?;
    session.cluster.end().await
}

#[tokio::test]
async fn a_grain_from_manifest_to_trash() -> anyhow::Result<()> {
    let mut session = Session::start().await?;
    session.cluster.api.apply(&policy(1)).await?;
    let (book, file) = session.book("book", "ada")?;
    // It may run before anybody asks.
    session.terminal.replace("book is back; it is running", "book is back; it is starting");
    let t = &session.terminal;
    // The copy goes to bob: where there is a choice it is the machine's, by what is free at that moment.
    t.run(&["node", "cordon", "cy"], "")?;
    t.golden("diff-new", &["diff", "-f", &file])?;
    t.rough("place-file", &["place", "-f", &file, "--explain"])?;
    t.golden("apply-dry-run", &["apply", "-f", &file, "--dry-run"])?;
    t.golden("apply-created", &["apply", "-f", &file, "--progress", "none"])?;
    session.cluster.is_protected("book", 1).await?;
    session.settled().await?;
    t.golden("apply-unchanged", &["apply", "-f", &file])?;
    t.golden("diff-none", &["diff", "-f", &file])?;
    let changed = std::fs::read_to_string(&file)?.replace("app: book", "app: book, tier: home");
    std::fs::write(&file, changed)?;
    t.golden("diff-changed", &["diff", "-f", &file])?;
    t.golden("apply-updated", &["apply", "-f", &file, "-o", "json"])?;
    t.golden("wait-grain", &["wait", "grain/book", "--for", "running"])?;
    session.settled().await?;
    let forms: [(&str, &[&str]); 8] = [
        ("ls", &["ls"]),
        ("ls-wide", &["ls", "-o", "wide"]),
        ("ls-name", &["ls", "-o", "name"]),
        ("ls-csv", &["ls", "-o", "csv"]),
        ("ls-json", &["ls", "-o", "json"]),
        ("ls-yaml", &["ls", "-o", "yaml"]),
        ("ls-selector", &["ls", "-l", "app=mail"]),
        ("ls-columns", &["ls", "--columns", "name,node", "--no-headers"]),
    ];
    for (name, words) in forms {
        match name {
            "ls" | "ls-wide" | "ls-csv" => t.rough(name, words)?,
            _ => t.golden(name, words)?,
        };
    }
    t.golden("status", &["status"])?;
    t.golden("info", &["info", "book"])?;
    t.golden("get-yaml", &["get", "grain", "book", "-o", "yaml"])?;
    t.golden("get-bare", &["get", "grain", "book", "--bare", "-o", "yaml"])?;
    t.rough("place", &["place", "book"])?;
    t.golden("logs", &["logs", "book"])?;
    book.sign("hello").await?;
    t.golden("exec", &["exec", "book", "--", "cat", "entries.jsonl"])?;
    t.golden("rm-dry-run", &["rm", "book", "--dry-run"])?;
    t.golden("rm", &["rm", "book", "--yes"])?;
    t.golden("ls-trashed", &["ls", "--trashed", "-o", "name"])?;
    t.golden("undelete", &["undelete", "book"])?;
    t.golden("rm-purge", &["rm", "book", "--purge", "--yes"])?;
    session.cluster.end().await
}

#[tokio::test]
async fn moves_and_operations() -> anyhow::Result<()> {
    let mut session = Session::start().await?;
    session.cluster.api.apply(&policy(2)).await?;
    let (book, _) = session.book("book", "ada")?;
    let guestbook = program("scrapd")?.with_file_name("scrap-guestbook");
    let (port, guestbook) = (book.port.to_string(), guestbook.display().to_string());
    let t = &session.terminal;
    let env = format!("PORT={port}");
    let quiet = "--progress=none";
    let launch = [
        "launch",
        "process",
        "book",
        "--protect",
        "test",
        "--health-port",
        &port,
        "--health-path",
        "/healthz",
        "--disk",
        "16MiB",
        "--env",
        &env,
        quiet,
        "--",
        &guestbook,
    ];
    // It is made on ada: where there is a choice it is the machine's, by what is free at that moment.
    for node in ["bob", "cy"] {
        t.run(&["node", "cordon", node], "")?;
    }
    t.golden("launch", &launch)?;
    for node in ["bob", "cy"] {
        t.run(&["node", "uncordon", node], "")?;
    }
    session.cluster.is_protected("book", 2).await?;
    t.run(&["node", "cordon", "cy"], "")?;
    session.settled().await?;
    t.golden("migrate-dry-run", &["migrate", "book", "--to", "bob", "--dry-run"])?;
    t.golden("migrate", &["migrate", "book", "--to", "bob", quiet])?;
    t.golden("migrate-nowhere", &["migrate", "book", "--to", "dan", quiet])?;
    session.cluster.is_protected("book", 2).await?;
    t.golden("stop", &["stop", "book", quiet])?;
    t.golden("start", &["start", "book", quiet])?;
    t.golden("restart", &["restart", "book", quiet])?;
    session.cluster.is_protected("book", 2).await?;
    t.golden("snapshot", &["snapshot", "book", "before", quiet])?;
    t.golden("restore-dry-run", &["restore", "book", "before", "--dry-run"])?;
    t.golden("restore", &["restore", "book", "before", quiet])?;
    t.golden("restore-unknown", &["restore", "book", "never", quiet])?;
    t.golden("clone", &["clone", "book", "copy", "--snapshot", "before", quiet])?;
    session.all_ended().await?;
    t.golden("op-ls", &["op", "ls", "--limit", "3"])?;
    t.golden("op-ls-json", &["op", "ls", "--limit", "1", "-o", "json"])?;
    t.golden("events", &["events", "--topic", "grain", "--limit", "4"])?;
    t.golden("failover-refused", &["failover", "book", "--dry-run"])?;
    session.cluster.is_protected("book", 2).await?;
    t.golden("node-drain-dry-run", &["node", "drain", "bob", "--dry-run"])?;
    t.golden("node-drain", &["node", "drain", "bob", quiet])?;
    let state = session.cluster.api.grain("book").await?.status.state;
    assert_eq!(state, GrainState::Running);
    t.golden("node-info-drained", &["node", "info", "bob"])?;
    t.golden("node-undrain", &["node", "undrain", "bob"])?;
    session.cluster.end().await
}
