//! Selectors of labels: `app=blog,tier!=x`. Pure.

use std::str::FromStr;

use scrap_schema::spec::Labels;
use thiserror::Error;

/// Which labels an object must have or must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: String,
    value: String,
    equal: bool,
}

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{term}` is no part of a selector: {why}")]
pub(super) struct BadSelector {
    term: String,
    why: &'static str,
}

impl Selector {
    /// Whether labels fit every part.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| (labels.get(&term.key) == Some(&term.value)) == term.equal)
    }

    /// The labels, if every part says `key=value`.
    pub(super) fn labels(&self) -> Option<Labels> {
        let pair = |term: &Term| term.equal.then(|| (term.key.clone(), term.value.clone()));
        self.0.iter().map(pair).collect()
    }
}

impl FromStr for Selector {
    type Err = BadSelector;
    fn from_str(text: &str) -> Result<Self, BadSelector> {
        text.split(',').map(term).collect::<Result<_, _>>().map(Self)
    }
}

fn term(text: &str) -> Result<Term, BadSelector> {
    let bad = |why| BadSelector { term: text.chars().take(60).collect(), why };
    let (left, value) = text.split_once('=').ok_or_else(|| bad("write key=value or key!=value"))?;
    let (key, equal) = match left.strip_suffix('!') {
        Some(key) => (key.trim(), false),
        None => (left.trim(), true),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(bad("before the sign stands the key of a label"));
    }
    Ok(Term { key: key.to_owned(), value: value.trim().to_owned(), equal })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.split(',').filter_map(pair).collect()
    }

    fn check(selector: &str, of: &str, fits: bool) {
        assert_eq!(selector.parse::<Selector>().unwrap().matches(&labels(of)), fits, "{selector}");
    }

    #[test]
    fn every_part_must_fit() {
        check("app=blog", "app=blog,tier=x", true);
        check("app=blog,tier=y", "app=blog,tier=x", false);
        check("app=blog,tier!=y", "app=blog,tier=x", true);
        check("tier!=x", "app=blog", true);
        check("tier=x", "app=blog", false);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "app", "=x", "app=blog,", "!=x", "a b=c"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_equalities_are_labels() {
        assert_eq!("a=1,b=2".parse::<Selector>().unwrap().labels(), Some(labels("a=1,b=2")));
        assert_eq!("a!=1".parse::<Selector>().unwrap().labels(), None);
    }
}
