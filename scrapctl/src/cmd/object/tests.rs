//! What `edit` sends.

use super::*;
use crate::values;

fn edited(change_text: impl Fn(&str) -> String) -> Result<Option<Call>, Failure> {
    let before = values::troubled_grain().manifest();
    let text = show::to_yaml(&before).unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), change_text(&text)).unwrap();
    change(&["grains", "mail-alice"], "\"17\"", &before, &file.path().to_owned())
}

#[test]
fn saving_without_a_change_sends_nothing() {
    assert!(edited(str::to_owned).unwrap().is_none());
    assert!(edited(|text| format!("# a remark\n{text}")).unwrap().is_none());
}

#[test]
fn a_change_is_sent() {
    assert!(edited(|text| text.replace("256MiB", "512MiB")).unwrap().is_some());
    assert!(edited(|text| text.replace("owner: alice", "owner: bob")).unwrap().is_some());
}

#[test]
fn names_and_nonsense_are_refused() {
    let renamed = edited(|text| text.replace("mail-alice", "mail-bob")).unwrap_err();
    assert_eq!(renamed.to_string(), "kind and name cannot be changed");
    let nonsense = edited(|text| text.replace("memory:", "memroy:")).unwrap_err();
    assert!(matches!(nonsense, Failure::Manifests { .. }), "{nonsense:?}");
}

#[test]
fn every_kind_is_written_as_a_manifest_that_can_be_read() {
    let manifests = [
        values::grain("web").manifest(),
        values::node("ada").manifest(),
        values::policy("standard").manifest(),
    ];
    for manifest in manifests {
        let text = show::to_yaml(&manifest).unwrap();
        let read = scrap_schema::manifest::parse("-", &text).unwrap();
        assert_eq!(read, [manifest], "{text}");
    }
}
