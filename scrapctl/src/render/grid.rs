//! Rows and columns: as a table for people, as CSV for programs, as names for loops.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell as TableCell, CellAlignment, ContentArrangement, Table};

use super::text::{Theme, Tone, clean};
use crate::cli::ListArgs;
use crate::failure::Failure;
use crate::nearest::nearest;

/// A column. Its key is a promise: it heads the CSV and is what `--columns` and `--sort` take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// For people.
    pub(crate) title: &'static str,
    /// For programs; names the unit of the raw value.
    pub(crate) key: &'static str,
    /// Only with `-o wide`.
    pub(crate) wide: bool,
    /// Numbers stand to the right.
    pub(crate) right: bool,
}

impl Column {
    /// An ordinary column.
    pub(crate) const fn new(title: &'static str, key: &'static str) -> Self {
        Self { title, key, wide: false, right: false }
    }

    /// Only with `-o wide`.
    pub(crate) const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// Of numbers.
    pub(crate) const fn right(self) -> Self {
        Self { right: true, ..self }
    }
}

/// One value: what people read, and what programs read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    raw: String,
    tone: Tone,
}

impl Cell {
    /// The same for both.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        let raw = text.as_ref().to_owned();
        Self { text: clean(&raw), raw, tone: Tone::Plain }
    }

    /// Different for people and programs.
    pub(crate) fn raw(text: impl AsRef<str>, raw: impl ToString) -> Self {
        Self { text: clean(text.as_ref()), raw: raw.to_string(), tone: Tone::Plain }
    }

    /// Nothing: a dash for people, an empty field for programs.
    pub(crate) fn none(theme: Theme) -> Self {
        Self { text: theme.dash().to_owned(), raw: String::new(), tone: Tone::Dim }
    }

    /// In a tone.
    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Rows of cells; the first column is the name.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    /// Rows under these columns.
    pub(crate) fn new(columns: &'static [Column], rows: Vec<Vec<Cell>>) -> Self {
        Self { columns, rows }
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A table without lines around it: columns are two spaces apart, and never cut.
    pub(crate) fn table(
        &self,
        list: &ListArgs,
        wide: bool,
        theme: Theme,
    ) -> Result<String, Failure> {
        let chosen = self.choose(list, |column| wide || !column.wide)?;
        let rows = self.sorted(list)?;
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.force_no_tty();
        if !list.no_headers {
            let titles = chosen.iter().filter_map(|at| self.columns.get(*at));
            table.set_header(titles.map(|column| theme.paint(Tone::Dim, column.title)));
        }
        for row in rows {
            let cells = chosen.iter().filter_map(|at| row.get(*at));
            table.add_row(cells.map(|cell| TableCell::new(theme.paint(cell.tone, &cell.text))));
        }
        for (place, at) in chosen.iter().enumerate() {
            let last = place + 1 == chosen.len();
            if let Some(column) = table.column_mut(place) {
                column.set_padding((0, if last { 0 } else { 2 }));
                if self.columns.get(*at).is_some_and(|column| column.right) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        Ok(text)
    }

    /// RFC 4180 but for the ends of lines, which are those of every other program's output; with raw values; every column
    /// unless some are chosen.
    pub(crate) fn csv(&self, list: &ListArgs) -> Result<String, Failure> {
        let chosen = self.choose(list, |_| true)?;
        let mut text = String::new();
        let mut line = |fields: Vec<&str>| {
            let fields: Vec<String> = fields.into_iter().map(quote).collect();
            text.push_str(&fields.join(","));
            text.push('\n');
        };
        if !list.no_headers {
            line(chosen.iter().filter_map(|at| self.columns.get(*at)).map(|c| c.key).collect());
        }
        for row in self.sorted(list)? {
            let cells = chosen.iter().filter_map(|at| row.get(*at));
            line(cells.map(|cell| cell.raw.as_str()).collect());
        }
        Ok(text)
    }

    /// The first column, one per line.
    pub(crate) fn names(&self, list: &ListArgs) -> Result<String, Failure> {
        let rows = self.sorted(list)?;
        let names = rows.iter().filter_map(|row| row.first());
        Ok(names.map(|cell| format!("{}\n", clean(&cell.raw))).collect())
    }

    fn choose(
        &self,
        list: &ListArgs,
        by_default: impl Fn(&Column) -> bool,
    ) -> Result<Vec<usize>, Failure> {
        if list.columns.is_empty() {
            let all = self.columns.iter().enumerate();
            return Ok(all.filter(|(_, column)| by_default(column)).map(|(at, _)| at).collect());
        }
        list.columns.iter().map(|name| self.find(name)).collect()
    }

    fn find(&self, name: &str) -> Result<usize, Failure> {
        let wanted = name.trim().to_lowercase();
        let found = self
            .columns
            .iter()
            .position(|column| column.key == wanted || column.title.to_lowercase() == wanted);
        found.ok_or_else(|| {
            let keys: Vec<&str> = self.columns.iter().map(|column| column.key).collect();
            let hint = match nearest(&wanted, &keys) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", keys.join(", ")),
            };
            Failure::Usage { message: format!("there is no column `{name}`"), hint: Some(hint) }
        })
    }

    fn sorted(&self, list: &ListArgs) -> Result<Vec<&Vec<Cell>>, Failure> {
        let mut rows: Vec<&Vec<Cell>> = self.rows.iter().collect();
        let Some(sort) = &list.sort else { return Ok(rows) };
        let (name, backwards) = match sort.strip_prefix('-') {
            Some(name) => (name, true),
            None => (sort.as_str(), false),
        };
        let at = self.find(name)?;
        // Numbers by size, texts after them, nothing last in both directions.
        rows.sort_by(|left, right| {
            let key =
                |row: &Vec<Cell>| row.get(at).map(|cell| cell.raw.clone()).unwrap_or_default();
            let (left, right) = (key(left), key(right));
            let order = match (left.parse::<f64>(), right.parse::<f64>()) {
                (Ok(left), Ok(right)) => left.total_cmp(&right),
                (Ok(_), Err(_)) => std::cmp::Ordering::Less,
                (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(&right),
            };
            let order = if backwards { order.reverse() } else { order };
            left.is_empty().cmp(&right.is_empty()).then(order)
        });
        Ok(rows)
    }
}

fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::new("NAME", "name"),
        Column::new("LAG", "lag_ms").right(),
        Column::new("NOTE", "note").wide(),
    ];

    fn grid() -> Grid {
        let theme = Theme { color: false, utf8: true };
        let row = |name: &str, lag: Option<u64>, note: &str| {
            let lag = lag.map_or_else(
                || Cell::none(theme),
                |ms| Cell::raw(super::super::text::short_span(ms), ms),
            );
            vec![Cell::new(name), lag, Cell::new(note)]
        };
        Grid::new(
            COLUMNS,
            vec![
                row("mail", Some(9_000), "says \"hi\", twice"),
                row("blog", None, "a\x1b[2Jb"),
                row("xmpp", Some(120_000), ""),
            ],
        )
    }

    fn list(columns: &[&str], sort: Option<&str>, no_headers: bool) -> ListArgs {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        ListArgs { columns, no_headers, sort: sort.map(str::to_owned) }
    }

    fn check(list: &ListArgs, wide: bool, expected: Expect) {
        expected.assert_eq(&grid().table(list, wide, Theme { color: false, utf8: true }).unwrap());
    }

    #[test]
    fn a_table_shows_the_ordinary_columns() {
        check(
            &ListArgs::default(),
            false,
            expect![[r#"
            NAME  LAG
            mail   9s
            blog    –
            xmpp   2m
        "#]],
        );
    }

    #[test]
    fn wide_shows_all_and_escapes() {
        check(
            &ListArgs::default(),
            true,
            expect![[r#"
            NAME  LAG  NOTE
            mail   9s  says "hi", twice
            blog    –  a\u{1b}[2Jb
            xmpp   2m
        "#]],
        );
    }

    #[test]
    fn columns_can_be_chosen_and_sorted() {
        check(
            &list(&["lag", "NAME"], Some("-lag_ms"), true),
            false,
            expect![[r#"
            2m  xmpp
            9s  mail
             –  blog
        "#]],
        );
    }

    #[test]
    fn csv_is_for_programs() {
        let csv = grid().csv(&list(&[], Some("name"), false)).unwrap();
        assert_eq!(
            csv,
            "name,lag_ms,note\nblog,,a\x1b[2Jb\nmail,9000,\"says \"\"hi\"\", twice\"\nxmpp,120000,\n"
        );
    }

    #[test]
    fn an_unknown_column_gets_a_hint() {
        let failure =
            grid().table(&list(&["nmae"], None, false), false, Theme { color: false, utf8: true });
        match failure {
            Err(Failure::Usage { message, hint }) => {
                assert_eq!(message, "there is no column `nmae`");
                assert_eq!(hint.as_deref(), Some("did you mean `name`?"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn colour_does_not_move_columns() {
        let theme = Theme { color: true, utf8: true };
        let rows = vec![
            vec![Cell::new("a").tone(Tone::Bad), Cell::new("1"), Cell::new("x")],
            vec![Cell::new("bbb"), Cell::new("2"), Cell::new("y")],
        ];
        let text = Grid::new(COLUMNS, rows).table(&ListArgs::default(), false, theme).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "NAME  LAG\na       1\nbbb     2\n");
        assert!(text.contains('\x1b'));
    }
}
