//! "Did you mean": the known word that is closest to an unknown one.

/// A longer word is no slip of the fingers.
const WORD_BYTES_MAX: usize = 40;

/// The word of `known` that `word` was probably meant to be.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let written = word.to_lowercase();
    // Any two short words are a slip or two apart.
    let slips_max = match written.len() {
        0..=2 => 0,
        3..=4 => 1,
        _ => 2,
    };
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= WORD_BYTES_MAX)
        .filter_map(|candidate| {
            let compared = candidate.to_lowercase();
            // `env` for `environment`, `working_dir` for `working_directory`.
            let abbreviated = written.len() >= 3 && compared.starts_with(&written);
            let slips = if abbreviated { 1 } else { strsim::osa_distance(&written, &compared) };
            (slips <= slips_max).then_some((slips, candidate))
        })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised_and_other_words_are_not() {
        let known = ["command", "run", "environment", "working_directory", "retry_count"];
        for (word, meant) in [
            ("comand", Some("command")),
            ("Command", Some("command")),
            ("retry_cuont", Some("retry_count")),
            ("retry-count", Some("retry_count")),
            ("env", Some("environment")),
            ("working_dir", Some("working_directory")),
            ("rnu", Some("run")),
            ("image", None),
            ("ru", None),
            ("", None),
            ("größe", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
        assert_eq!(closest(&"run".repeat(100_000), known), None);
    }
}
