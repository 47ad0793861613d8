//! Figures of clusters with real ZFS, LXC and networks beside those of the plain tools on the same pools in the same run: `make
//! bench-platform`. Prints what it measures and asserts nothing. Three nodes share this machine's processors and disk.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

#[cfg(target_os = "linux")]
mod launch;
#[cfg(target_os = "linux")]
mod moves;
#[cfg(target_os = "linux")]
mod plain;
#[cfg(target_os = "linux")]
mod streams;

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("labs need Linux");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
const ALL: [&str; 5] = ["stream", "increment", "migrate", "launch", "many"];

/// The middle of these figures.
#[cfg(target_os = "linux")]
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<ExitCode> {
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
        println!("   again: make bench-platform BENCH={name}");
        // A thread moves into the network of its lab and cannot come back: each bench has one of its own.
        let thread = std::thread::spawn(move || -> anyhow::Result<bool> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(measure(name))
        });
        match thread.join() {
            Ok(measured) => {
                if !measured? {
                    break;
                }
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a lab and measures one thing; `false`: there can be no lab here.
#[cfg(target_os = "linux")]
async fn measure(name: &str) -> anyhow::Result<bool> {
    use scrap_tests::platform::book::{Kind, NETWORK, policy};
    use scrap_tests::platform::{Spec, refusal, template, up};

    let kinds: &[Kind] = match name {
        "many" => &[Kind::Busybox],
        "launch" => &[Kind::Busybox, Kind::Nginx],
        _ => &[Kind::Nginx],
    };
    let mut files = Vec::new();
    if refusal().is_none() {
        for kind in kinds {
            files.push(template::cook(*kind, &[]).await?);
        }
    }
    let Some(lab) = up(Spec::default().option("--size", "24G")).await? else { return Ok(false) };
    for (kind, file) in kinds.iter().zip(&files) {
        lab.import(*kind, file).await?;
    }
    let copies = u32::from(name != "many" && name != "stream");
    lab.apply(&format!("{NETWORK}---\n{}", policy(copies))).await?;
    match name {
        "stream" => streams::stream(&lab).await?,
        "increment" => streams::increment(&lab).await?,
        "migrate" => moves::migrate(&lab).await?,
        "launch" => launch::launch(&lab).await?,
        _ => launch::many(&lab).await?,
    }
    lab.end().await?;
    Ok(true)
}
