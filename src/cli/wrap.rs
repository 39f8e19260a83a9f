//! Words in lines.

/// `words` in lines with a space between words: as many in each as there are columns for, `first`
/// in the first line and `further` in all others. A word that is longer has a line of its own.
pub fn wrap<W>(
    words: impl IntoIterator<Item = W>,
    width: impl Fn(&W) -> usize,
    first: usize,
    further: usize,
) -> Vec<Vec<W>> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    let (mut columns, mut taken) = (first, 0);
    for word in words {
        let width = width(&word);
        if taken > 0 && taken + 1 + width > columns {
            lines.push(std::mem::take(&mut line));
            (columns, taken) = (further, 0);
        }
        taken += width + usize::from(taken > 0);
        line.push(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let wrapped = |text: &'static str, first, further| -> Vec<String> {
            let lines = wrap(text.split(' '), |word| word.chars().count(), first, further);
            lines.iter().map(|line| line.join(" ")).collect()
        };
        assert_eq!(wrapped("ab cd ef", 5, 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("ab cd ef gh", 2, 5), ["ab", "cd ef", "gh"]);
        assert_eq!(wrapped("a/long/path and more", 5, 5), ["a/long/path", "and", "more"]);
        assert_eq!(wrapped("", 5, 5), [""]);
    }
}
