//! Which package may depend on which: the missing dependency is the wall. Asks cargo for the manifests.

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;

use crate::{nothing, root};

#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Clone, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
    /// `None`: a normal one; else `dev` or `build`.
    kind: Option<String>,
}

/// What a package may have.
struct Wall {
    package: &'static str,
    /// Packages of this workspace.
    ours: &'static [&'static str],
    /// Everything else that it may have; empty: anything but `never`.
    others: &'static [&'static str],
    never: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall {
        package: "scrap-schema",
        ours: &[],
        others: &["serde", "serde_json", "serde-saphyr", "thiserror", "utoipa", "jiff", "strsim"],
        never: &[],
    },
    Wall {
        package: "scrap-decide",
        ours: &["scrap-schema"],
        others: &["serde", "thiserror"],
        never: &[],
    },
    Wall {
        package: "scrap-host",
        ours: &["scrap-schema"],
        others: &[
            "blake3",
            "flate2",
            "liblzma",
            "nix",
            // Of the feature `libzfs` alone.
            "nvpair-sys",
            "rustix",
            "serde",
            "serde_json",
            "tar",
            "thiserror",
            "tokio",
            "tracing",
            "zfs-core-sys",
            "zstd",
        ],
        never: &[],
    },
    Wall {
        package: "scrapd",
        ours: &["scrap-schema", "scrap-decide", "scrap-host"],
        others: &[],
        never: &["clap_complete", "comfy-table", "indicatif"],
    },
    Wall {
        package: "base2histogram",
        ours: &[],
        // Nothing but the standard library.
        others: &["core"],
        never: &[],
    },
    Wall {
        package: "scrapctl",
        ours: &["scrap-schema"],
        others: &[],
        never: &["axum", "openraft", "sqlx"],
    },
    Wall {
        package: "scrap-tests",
        ours: &["scrap-schema", "scrap-decide", "scrap-host", "scrapd"],
        others: &[],
        never: &[],
    },
];

/// Every edge that crosses a wall. Edges of tests may reach packages of others, never our own ones above.
fn crossings(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let Some(wall) = WALLS.iter().find(|wall| wall.package == package.name) else {
            found.push(format!("package `{}` has no wall in tests/tidy/edges.rs", package.name));
            continue;
        };
        for edge in &package.dependencies {
            let name = edge.name.as_str();
            let normal = edge.kind.as_deref() != Some("dev");
            let allowed = if ours.contains(name) {
                wall.ours.contains(&name)
            } else {
                !normal
                    || (wall.others.is_empty() && !wall.never.contains(&name))
                    || wall.others.contains(&name)
            };
            if !allowed {
                found.push(format!("`{}` must not depend on `{name}`", package.name));
            }
        }
    }
    found
}

fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    let edge = |(name, kind): &(&str, Option<&str>)| Dependency {
        name: (*name).to_owned(),
        kind: kind.map(ToOwned::to_owned),
    };
    Package { name: name.to_owned(), dependencies: dependencies.iter().map(edge).collect() }
}

#[test]
fn dependencies_point_down_only() {
    for (name, edge) in [
        ("scrap-schema", ("tokio", None)),
        ("scrap-decide", ("scrap-host", Some("dev"))),
        ("scrap-host", ("axum", None)),
        ("scrapctl", ("scrapd", Some("dev"))),
        ("scrapctl", ("sqlx", None)),
        ("newcomer", ("serde", None)),
    ] {
        let all = ["scrap-host", "scrapd"].map(|name| package(name, &[]));
        let one = package(name, &[edge]);
        let mut packages: Vec<Package> =
            all.into_iter().filter(|other| other.name != name).collect();
        packages.push(one);
        assert_eq!(crossings(&packages).len(), 1, "{name} -> {edge:?}");
    }
    assert!(
        crossings(&[package("scrap-schema", &[("serde", None), ("proptest", Some("dev"))])])
            .is_empty()
    );

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(metadata.packages.len(), WALLS.len());
    nothing(crossings(&metadata.packages));
}
