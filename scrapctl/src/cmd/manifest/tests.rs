//! How manifests are found and refused.

use std::path::{Path, PathBuf};

use super::*;

fn policy(name: &str) -> String {
    format!("apiVersion: scrap/v1\nkind: Policy\nmetadata:\n  name: {name}\nspec: {{}}\n")
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn names(paths: &[PathBuf], recursive: bool) -> Vec<String> {
    let manifests = read(paths, recursive).unwrap();
    manifests.into_iter().map(|manifest| manifest.metadata.name.to_string()).collect()
}

#[test]
fn folders_are_read_by_name_and_only_deeper_if_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "b.yml", &policy("b"));
    write(path, "a.yaml", &format!("{}---\n{}", policy("a1"), policy("a2")));
    write(path, "notes.txt", "not a manifest");
    write(path, ".hidden.yaml", "not a manifest");
    write(
        path,
        "deep/c.json",
        r#"{"apiVersion":"scrap/v1","kind":"Policy","metadata":{"name":"c"},"spec":{}}"#,
    );
    assert_eq!(names(&[path.to_owned()], false), ["a1", "a2", "b"]);
    assert_eq!(names(&[path.to_owned()], true), ["a1", "a2", "b", "c"]);
    assert_eq!(names(&[path.join("b.yml"), path.join("deep")], false), ["b", "c"]);
}

#[test]
fn faults_of_all_files_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "a.yaml", "apiVersion: scrap/v1\nkind: Polcy\nmetadata: {name: a}\n");
    write(path, "b.yaml", &policy("b").replace("spec", "spce"));
    let Err(Failure::Manifests { faults }) = read(&[path.to_owned()], false) else {
        panic!("it was accepted")
    };
    let files: Vec<_> = faults.iter().map(|(file, _)| file.rsplit('/').next().unwrap()).collect();
    assert!(files.contains(&"a.yaml") && files.contains(&"b.yaml"), "{faults:?}");
    assert!(faults.iter().all(|(_, fault)| fault.line.is_some()), "{faults:?}");
}

#[test]
fn the_same_object_in_two_files_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "a.yaml", &policy("twin"));
    write(path, "b.yaml", &policy("twin"));
    let Err(Failure::Manifests { faults }) = read(&[path.to_owned()], false) else {
        panic!("it was accepted")
    };
    let [(file, fault)] = faults.as_slice() else { panic!("{faults:?}") };
    assert!(file.ends_with("b.yaml"));
    assert!(fault.detail.starts_with("Policy `twin` is written twice, first in "), "{fault:?}");
    assert!(fault.detail.ends_with("a.yaml:1"), "{fault:?}");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read(&[folder.path().join("none.yaml")], false).unwrap_err();
    assert!(missing.to_string().contains("none.yaml"), "{missing}");
    let empty = read(&[folder.path().to_owned()], false).unwrap_err();
    assert_eq!(empty.exit(), 2);
}

#[test]
fn place_wants_one_grain() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "p.yaml", &policy("p"));
    let error = only_grain(&folder.path().join("p.yaml")).unwrap_err();
    assert_eq!(error.to_string(), "a Grain is wanted, not a Policy");
}
