//! Facts for people: one block per thing, keys aligned.

use std::fmt::Write;

use specs::facts::Facts;

/// The facts as an indented table that fits a serial console.
pub fn table(facts: &Facts) -> String {
    let width = facts.0.iter().map(|fact| fact.2.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut heading = None;
    for fact in &facts.0 {
        if heading != Some((&fact.0, &fact.1)) {
            heading = Some((&fact.0, &fact.1));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {}", fact.0, fact.1.escape_debug());
        }
        let value = fact.3.as_text();
        let _ = writeln!(text, "  {:width$}  {}", fact.2, value.escape_debug());
    }
    text
}
