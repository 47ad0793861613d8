//! The shelf of manifests: every malformed one has its message beside it, every well-formed one its full form.
//!
//! `UPDATE_EXPECT=1` writes the goldens; read what it wrote aloud.

use std::path::{Path, PathBuf};

use datatest_stable::Result;
use expect_test::expect_file;
use scrap_schema::manifest::parse;

fn golden(path: &Path, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).with_extension(extension)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn malformed(path: &Path, text: String) -> Result<()> {
    match parse(&name(path), &text) {
        Ok(manifests) => Err(format!("was accepted: {manifests:#?}").into()),
        Err(errors) => {
            expect_file![golden(path, "err")].assert_eq(&format!("{errors}\n"));
            Ok(())
        }
    }
}

fn wellformed(path: &Path, text: String) -> Result<()> {
    let manifests = parse(&name(path), &text)?;
    let written: Vec<String> = manifests
        .iter()
        .map(|manifest| manifest.to_yaml())
        .collect::<std::result::Result<_, _>>()?;
    let written = written.join("---\n");
    expect_file![golden(path, "full")].assert_eq(&written);
    let again = parse("again", &written)?;
    let without_lines = |manifests: Vec<scrap_schema::manifest::Manifest>| -> Vec<_> {
        manifests.into_iter().map(|manifest| (manifest.metadata, manifest.kind)).collect()
    };
    assert_eq!(without_lines(again), without_lines(manifests), "reads back differently");
    Ok(())
}

datatest_stable::harness! {
    { test = malformed, root = "tests/malformed", pattern = r"\.(yaml|json)$" },
    { test = wellformed, root = "tests/wellformed", pattern = r"\.(yaml|json)$" },
}
