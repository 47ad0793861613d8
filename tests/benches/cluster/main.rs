//! Figures of real clusters on this machine: `make bench`. Prints what it measures and asserts nothing. Every cluster has three
//! nodes on one machine, which share its processors and its disk.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

mod api;
mod figures;
mod idle;
mod moves;

use std::process::ExitCode;

const ALL: [&str; 6] = ["writes", "list", "leader", "migrate", "failover", "idle"];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(unknown) = words.iter().find(|word| !ALL.contains(&word.as_str())) {
        println!("there is no bench `{unknown}`; there are {}", ALL.join(", "));
        return Ok(ExitCode::from(2));
    }
    let optimised = if cfg!(debug_assertions) { "debug" } else { "release" };
    for name in ALL {
        if !words.is_empty() && !words.iter().any(|word| word == name) {
            continue;
        }
        println!("\n== {name} ({optimised})");
        println!("   again: cargo bench -p scrap-tests --bench cluster -- {name}");
        match name {
            "writes" => api::writes().await?,
            "list" => api::list().await?,
            "leader" => api::leader().await?,
            "migrate" => moves::migrate().await?,
            "failover" => moves::failover().await?,
            _ => idle::idle().await?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
