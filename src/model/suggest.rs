//! "Did you mean": the nearest of the words that would have been right.

/// The candidate nearest to `word`, when it is near enough that a slip of the finger explains the difference.
///
/// Distance counts insertions, deletions, replacements and swaps of neighbours, letter case aside; a word may
/// differ in a third of its letters, and in three at most; one of two letters only in their case.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).min(3);
    let lower = word.to_lowercase();
    // No more letters may differ than the lengths do; and a huge key must not cost quadratic time.
    let near_in_length = |candidate: &&str| candidate.len().abs_diff(word.len()) <= limit && word.len() <= 256;
    candidates
        .into_iter()
        .filter(near_in_length)
        .filter(|candidate| *candidate != word)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        assert_eq!(did_you_mean("imgae", ["image", "source"]), Some("image"));
        assert_eq!(did_you_mean("Image", ["image", "source"]), Some("image"));
        assert_eq!(did_you_mean("kubernets", ["aws", "kubernetes"]), Some("kubernetes"));
        assert_eq!(did_you_mean("x", ["d"]), None);
        assert_eq!(did_you_mean("KV", ["kv"]), Some("kv"));
        assert_eq!(did_you_mean("xyz", ["image", "source"]), None);
        assert_eq!(did_you_mean("image", ["image"]), None);
    }
}
