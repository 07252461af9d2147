//! What the demo prints: short sections, aligned, in colour only where that is wanted.

use std::io::Write;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";
/// Columns of a line of text.
const WIDTH: usize = 92;
const INDENT: usize = 10;

/// A page on stdout. A closed stdout is ignored: the checks go on.
pub struct Page {
    colour: bool,
    sections: usize,
}

impl Page {
    /// An empty page.
    pub fn new(colour: bool) -> Self {
        Self { colour, sections: 0 }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A plain line.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// The headline.
    pub fn title(&mut self, text: &str) {
        self.line(&self.paint(BOLD, text));
    }

    /// Begins a numbered section.
    pub fn section(&mut self, text: &str) {
        self.sections += 1;
        let heading = format!("{}. {text}", self.sections);
        self.line("");
        self.line(&self.paint(BOLD, &heading));
    }

    /// A remark.
    pub fn note(&mut self, text: &str) {
        self.line(&format!("  {}", self.paint(DIM, text)));
    }

    /// A name and a value.
    pub fn fact(&mut self, name: &str, value: &str) {
        self.line(&format!("  {name:<14}{}", self.paint(CYAN, value)));
    }

    /// Cells with the width of their columns; the last one's does not matter.
    pub fn row(&mut self, cells: &[(usize, &str)]) {
        let line: String = cells.iter().map(|(width, cell)| format!("{cell:<width$}")).collect();
        self.line(&format!("  {}", line.trim_end()));
    }

    /// Something that was tried and held.
    pub fn held(&mut self, tried: &str, outcome: &str) {
        self.line(&format!("  {tried}"));
        self.line(&format!("      {}", self.paint(GREEN, outcome)));
    }

    /// A tenant's answer, wrapped.
    pub fn answer(&mut self, tenant: &str, text: &str, took: &str) {
        let mut lead = self.paint(CYAN, &format!("{tenant:<INDENT$}"));
        for line in wrap(text, WIDTH - INDENT) {
            self.line(&format!("  {lead}{line}"));
            lead = " ".repeat(INDENT);
        }
        self.line(&format!("  {lead}{}", self.paint(DIM, took)));
    }

    /// One citation of the answer above.
    pub fn cited(&mut self, n: &str, title: &str) {
        self.line(&format!(
            "  {}{}",
            " ".repeat(INDENT),
            self.paint(GREEN, &format!("[{n}] {title}"))
        ));
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            let joined = line.chars().count() + 1 + word.chars().count();
            if line.is_empty() {
                line.push_str(word);
            } else if joined <= width {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines
}
