//! Columns of text, one below the other.

/// Rows as lines whose columns begin below each other, each indented by so many blanks. The last
/// column is as long as it likes.
pub fn aligned(rows: &[Vec<String>], indent: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width.saturating_sub(cell.chars().count()) + 3;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same without characters that a terminal obeys: names and messages come from others.
pub fn printable(text: &str) -> String {
    let shown = |c: char| c == '\n' || !c.is_control();
    text.chars()
        .map(|c| if shown(c) { c } else { '\u{fffd}' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn columns_begin_below_each_other() {
        let text = aligned(&rows(&[&["NAME", "AGE"], &["ci-mäin", "3s"], &["x"]]), 2);
        assert_eq!(text, "  NAME      AGE\n  ci-mäin   3s\n  x\n");
        assert_eq!(aligned(&[], 0), "");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let shown = printable("a\u{1b}[2Jb\r\u{9b}31mc\nd\u{7f}");
        assert_eq!(shown, "a\u{fffd}[2Jb\u{fffd}\u{fffd}31mc\nd\u{fffd}");
    }
}
