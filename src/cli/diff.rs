//! The lines in which two texts differ.

/// Cells of the table that finds the longest common subsequence, at most: 16 MiB of memory.
/// Texts that differ over more lines are shown as replaced as a whole.
const CELLS_MAX: usize = 4 * 1024 * 1024;

/// A line of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Same(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// What turns `old` into `new`, line by line.
pub fn diff<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail =
        old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut lines: Vec<Line> = old[..head].iter().map(|line| Line::Same(line)).collect();
    lines.extend(middle(&old[head..old.len() - tail], &new[head..new.len() - tail]));
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    let mut lines = Vec::with_capacity(old.len() + new.len());
    if (old.len() + 1).saturating_mul(width) > CELLS_MAX {
        lines.extend(old.iter().map(|line| Line::Removed(line)));
        lines.extend(new.iter().map(|line| Line::Added(line)));
        return lines;
    }
    // common[i * width + j]: the length of the longest subsequence of old[i..] and new[j..].
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]
        {
            lines.push(Line::Removed(old[i]));
            i += 1;
        } else {
            lines.push(Line::Added(new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_contains_both_texts() {
        let texts = ["", "a\n", "a\nb\nc\n", "a\nx\nc\n", "b\nc\nd\n", "c\nb\na\n", "a\na\nb\na\n"];
        for old in texts {
            for new in texts {
                let lines = diff(old, new);
                let side = |without: fn(&Line) -> bool| {
                    let kept = lines.iter().filter(|line| !without(line));
                    kept.map(|(Line::Same(text) | Line::Removed(text) | Line::Added(text))| {
                        format!("{text}\n")
                    })
                    .collect::<String>()
                };
                assert_eq!(side(|line| matches!(line, Line::Added(_))), old);
                assert_eq!(side(|line| matches!(line, Line::Removed(_))), new);
            }
        }
    }

    #[test]
    fn what_stayed_is_not_shown_as_changed() {
        let lines = diff("a\nb\nc\nd\n", "a\nc\nx\nd\n");
        use Line::{Added, Removed, Same};
        assert_eq!(lines, [Same("a"), Removed("b"), Same("c"), Added("x"), Same("d")]);
    }
}
