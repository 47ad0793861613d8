//! What `zfs` and `zpool` say, as values: their tables and their refusals. Only text; exit codes mean nothing, because each
//! version has its own.

use std::collections::BTreeMap;

use crate::datasets::Cause;

/// What a refusal means. `pool` names what is missing if it is the pool.
pub(super) fn cause(program: &str, said: &str, pool: &str) -> Cause {
    let lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let text = first_lines(said);
    if has(&["no such pool"]) {
        return Cause::PoolMissing { pool: pool.to_owned() };
    }
    if has(&["suspended"]) {
        return Cause::Suspended(text);
    }
    if has(&[
        "pool is read-only",
        "read-only pool",
        "read-only file system",
        "one or more devices is read only",
    ]) {
        return Cause::ReadOnly(text);
    }
    if has(&["permission denied", "operation not permitted", "insufficient privilege", "superuser"])
    {
        return Cause::Permission(text);
    }
    if has(&["out of space", "quota exceeded", "no space left"]) {
        return Cause::NoSpace;
    }
    if has(&["dependent clone", "being held"]) {
        return Cause::Held(text);
    }
    if has(&["has been modified", "most recent snapshot of"]) {
        // The caller knows the snapshots.
        return Cause::Diverged { newest: None, from: None };
    }
    if has(&["is busy", "target is busy", "resource busy"]) {
        return Cause::Busy(text);
    }
    if has(&["does not exist", "could not find any snapshots"]) {
        return Cause::Missing;
    }
    if has(&["already exists"]) {
        return Cause::Exists;
    }
    if has(&[
        "invalid stream",
        "invalid backup stream",
        "checksum mismatch",
        "incomplete stream",
        "failed to read from stream",
        "bad magic",
    ]) {
        return Cause::BadStream(text);
    }
    Cause::Program { program: program.to_owned(), said: text }
}

/// The lines before a usage text, as one.
fn first_lines(said: &str) -> String {
    let lines = said.lines().take_while(|line| !line.starts_with("usage:")).take(4);
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it said nothing".to_owned() } else { lines.join(" ") }
}

/// One row of `zfs get -Hp -o name,property,value,source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) value: String,
    /// Set on this dataset itself, not on one above it.
    pub(super) own: bool,
}

/// Properties by dataset. What is not a row, such as the second line of a value that somebody else wrote, is left out.
pub(super) fn properties(out: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut all: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in out.lines() {
        let mut parts = line.split('\t');
        let (Some(name), Some(property), Some(value), Some(source), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let own = matches!(source, "local" | "received" | "-");
        let value = Value { value: value.to_owned(), own };
        all.entry(name.to_owned()).or_default().insert(property.to_owned(), value);
    }
    all
}

/// A number where there is one: what does not apply is `-` or `none`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The bytes that `zfs send -nvP` announces.
pub(super) fn estimate(out: &str) -> Option<u64> {
    out.lines().rev().find_map(|line| line.strip_prefix("size")?.trim().parse().ok())
}

/// The guids that a token is for, of what `zfs send -nvP -t` says: where it began, and what it will be.
pub(super) fn token_guids(out: &str) -> (Option<u64>, Option<u64>) {
    let find = |name: &str| {
        out.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(" = ")?;
            let digits = value.strip_prefix("0x")?;
            (key == name).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        })
    };
    (find("fromguid"), find("toguid"))
}

#[cfg(test)]
mod tests;
