//! The end of a log by lines. Reads bytes only, never a file.

/// Where the last `lines` lines of a piece of log begin. A last line without its newline counts as a line.
pub(crate) fn tail_begin(log: &[u8], lines: u32) -> usize {
    let Ok(lines) = usize::try_from(lines) else { return 0 };
    if lines == 0 {
        return log.len();
    }
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let mut newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    newlines.nth(lines - 1).map_or(0, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::tail_begin;

    fn check(log: &str, lines: u32, tail: &str) {
        assert_eq!(&log[tail_begin(log.as_bytes(), lines)..], tail, "{lines} of {log:?}");
    }

    #[test]
    fn tail_counts_lines_from_the_end() {
        check("", 3, "");
        check("a\nb\nc\n", 0, "");
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc\n", 9, "a\nb\nc\n");
        check("a\nb\nc", 1, "c");
        check("a\n\nc", 2, "\nc");
    }
}
