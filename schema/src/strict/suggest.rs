//! "Did you mean": the nearest of the words that are allowed.

/// The allowed word that was probably meant, if one is near enough to be said.
pub fn nearest<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_', '.', ' '], "");
    let wanted = plain(written);
    let rated = allowed.into_iter().filter_map(|word| {
        let candidate = plain(word);
        let distance = strsim::osa_distance(&wanted, &candidate);
        let near = distance <= (candidate.chars().count() / 3).max(1);
        let begun = wanted.len() >= 3 && candidate.starts_with(&wanted);
        (near || begun).then_some((distance, word))
    });
    rated.min().map(|(_, word)| word)
}

/// Words for a sentence: `` `a`, `b`, `c` ``.
#[must_use]
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
