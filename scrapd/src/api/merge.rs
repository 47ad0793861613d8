//! JSON Merge Patch (RFC 7396), and what differs between two JSON values. Pure.

use scrap_schema::api::FieldChange;
use serde_json::{Map, Value};

/// Patches a value.
pub(super) fn patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            self::patch(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// What differs, leaf by leaf, in the order of keys.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", Some(before), Some(after), &mut changes);
    changes
}

fn compare(
    at: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    changes: &mut Vec<FieldChange>,
) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let step = key.replace('~', "~0").replace('/', "~1");
                compare(&format!("{at}/{step}"), old.get(key), new.get(key), changes);
            }
        }
        (before, after) if before == after => (),
        (before, after) => changes.push(FieldChange {
            pointer: at.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: Value, change: Value, after: Value) {
        let mut value = before;
        patch(&mut value, &change);
        assert_eq!(value, after);
    }

    // The examples of RFC 7396, appendix A.
    #[test]
    fn a_patch_replaces_adds_and_removes() {
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        );
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }

    #[test]
    fn differences_are_leaves_with_pointers() {
        let before = json!({"spec": {"cpu": 1, "env": {"a/b": "x"}, "old": true}});
        let after = json!({"spec": {"cpu": 2, "env": {"a/b": "y"}, "new": [1]}});
        let found = differences(&before, &after);
        let pointers: Vec<_> = found.iter().map(|change| change.pointer.as_str()).collect();
        assert_eq!(pointers, ["/spec/cpu", "/spec/env/a~1b", "/spec/new", "/spec/old"]);
        assert_eq!(found[2].before, None);
        assert_eq!(found[3].after, None);
    }

    #[test]
    fn equal_values_do_not_differ() {
        let value = json!({"a": [1, {"b": null}]});
        assert!(differences(&value, &value).is_empty());
    }
}
