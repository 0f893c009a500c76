//! Tables of the page.

use super::escape::html;

/// A table with a header; what it holds is text, never markup.
pub(super) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Names and values of any kind: no column of figures.
    pairs: bool,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(headers: &[&str]) -> Table {
        Table { headers: headers.iter().map(|header| (*header).to_owned()).collect(), rows: Vec::new(), pairs: false }
    }

    /// A table of names and their values.
    pub(super) fn pairs() -> Table {
        Table { pairs: true, ..Table::new(&["", "value"]) }
    }

    /// One more column, before there are rows.
    pub(super) fn column(&mut self, header: &str) {
        self.headers.push(header.to_owned());
    }

    /// One more row, a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As HTML, in a box of its own that scrolls where the page is too narrow. Figures stand right.
    pub(super) fn html(&self) -> String {
        let kind = if self.pairs { "pairs" } else { "figures" };
        let mut text = format!("<div class=\"scroll\" tabindex=\"0\"><table class=\"{kind}\">\n<thead><tr>");
        for (index, header) in self.headers.iter().enumerate() {
            let figures =
                self.rows.first().and_then(|row| row.get(index)).is_some_and(|cell| self.is_figure(index, cell));
            let class = if figures { " class=\"figure\"" } else { "" };
            text.push_str(&format!("<th scope=\"col\"{class}>{}</th>", html(header)));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            text.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let cell_text = html(cell);
                match index {
                    0 => text.push_str(&format!("<th scope=\"row\">{cell_text}</th>")),
                    _ if self.is_figure(index, cell) => {
                        text.push_str(&format!("<td class=\"figure\">{cell_text}</td>"))
                    }
                    _ => text.push_str(&format!("<td>{cell_text}</td>")),
                }
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody></table></div>\n");
        text
    }

    fn is_figure(&self, index: usize, cell: &str) -> bool {
        index > 0 && !self.pairs && looks_like_figure(cell)
    }
}

fn looks_like_figure(cell: &str) -> bool {
    cell == "-"
        || cell.trim_start_matches(['<', '>', '=', ' ', '-']).starts_with(|letter: char| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_and_figures_stand_right() {
        let mut table = Table::new(&["a<b"]);
        table.column("c");
        table.row(vec!["<script>".into(), "< 3e-7".into()]);
        let text = table.html();
        assert!(text.contains("a&lt;b") && text.contains("&lt;script&gt;"), "{text}");
        assert!(text.contains("<td class=\"figure\">&lt; 3e-7</td>"), "{text}");
    }
}
