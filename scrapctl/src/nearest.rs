//! The nearest of the names that exist: "did you mean". Pure.

/// Finds the one name that somebody most likely meant, if any is near enough.
pub(crate) fn nearest<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let scored = names.iter().filter_map(|name| {
        let begins = wanted.len() >= 3 && name.starts_with(wanted);
        let far = if begins { 1 } else { distance(wanted, name) };
        (far <= limit).then_some((far, *name))
    });
    scored.min().map(|(_, name)| name)
}

/// Number of letters to add, drop, change or swap with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&row, j + 1) + 1).min(at(&next, j) + 1);
            best = best.min(at(&row, j) + usize::from(a != b));
            let swapped =
                i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, names: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(wanted, names), expected, "{wanted} of {names:?}");
    }

    #[test]
    fn one_letter_is_forgiven() {
        check("mial", &["blog", "mail", "xmpp"], Some("mail"));
        check("blg", &["blog", "mail"], Some("blog"));
    }

    #[test]
    fn the_beginning_of_a_name_is_enough() {
        check("mail", &["mail-alice", "blog"], Some("mail-alice"));
    }

    #[test]
    fn something_else_is_not_guessed() {
        check("wiki", &["blog", "mail", "xmpp"], None);
        check("a", &[], None);
    }
}
