//! Rows in columns, for the commands that print tables.

use std::io;

use unicode_width::UnicodeWidthStr as _;

/// Prints a head and rows, each column as wide as its widest cell.
pub(super) fn print(out: &mut dyn io::Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| cell.to_uppercase()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Signs of some scripts take two columns of a terminal.
fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{:1$}", "", width.saturating_sub(cell.width()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        print(&mut out, &["name", "n"], &[row("x", "1"), row("longer", "22")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME    N\nx       1\nlonger  22\n");
        let mut out = Vec::new();
        print(&mut out, &["name", "n"], &[row("名前です", "1"), row("ä", "2")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME      N\n名前です  1\nä         2\n");
    }
}
