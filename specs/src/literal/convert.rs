//! A Python literal file as RON: the same literals and comments, in the same layout.
//!
//! Only what the syntaxes write differently is written anew: texts, keys, truth values, numbers
//! and comment signs. Blanks, line ends, commas and brackets stay as they are.

use super::{Document, Kind, Node, Style, Syntax, escape, print};
use crate::diagnostic::Span;

impl Document {
    /// The text in RON. A RON document is returned as it is. A comment between the parts of a
    /// text that was put together from several (`'a'  # why` `'b'`) has no place in RON and is
    /// returned beside the text.
    pub fn to_ron(&self) -> (String, Vec<String>) {
        if self.syntax == Syntax::Ron {
            return (self.text.clone(), Vec::new());
        }
        let mut pieces = Vec::new();
        collect(&self.root, &mut pieces);
        self.drop_parentheses(&self.root, &mut pieces);
        let mut lost = Vec::new();
        for comment in &self.comments {
            let text = self.text[comment.start..comment.end].trim_start_matches('#');
            if pieces.iter().any(|(span, _)| span.start < comment.start && comment.end <= span.end)
            {
                lost.push(text.trim().to_owned());
            } else {
                let text = text.trim_end_matches('\r');
                pieces.push((*comment, format!("//{text}")));
            }
        }
        pieces.sort_by_key(|(span, _)| *span);
        let mut ron = String::with_capacity(self.text.len() + 64);
        let mut at = 0;
        for (span, piece) in &pieces {
            if span.start < at {
                continue;
            }
            ron.push_str(&unjoined(&self.text[at..span.start]));
            ron.push_str(piece);
            at = span.end;
        }
        ron.push_str(&unjoined(&self.text[at..]));
        (print::telling_syntax(ron, Syntax::Ron), lost)
    }
}

impl Document {
    /// Parentheses around one literal say nothing in Python, and make a tuple in RON.
    fn drop_parentheses(&self, node: &Node, pieces: &mut Vec<(Span, String)>) {
        let around = [node.outer.start..node.span.start, node.span.end..node.outer.end];
        for at in around.into_iter().flatten() {
            // Those within comments go with the comment, which is written anew as a whole.
            if matches!(self.text.as_bytes()[at], b'(' | b')') {
                pieces.push((Span { start: at, end: at + 1 }, String::new()));
            }
        }
        match &node.kind {
            Kind::List(items) | Kind::Tuple(items) => {
                items.iter().for_each(|item| self.drop_parentheses(item, pieces));
            }
            Kind::Dict(entries) => {
                entries.iter().for_each(|entry| self.drop_parentheses(&entry.value, pieces));
            }
            Kind::Generate(argument) => self.drop_parentheses(argument, pieces),
            Kind::Scalar(_) | Kind::Secret(_) => {}
        }
    }
}

/// What stands between the literals, without the backslashes that join lines in Python: a line
/// end says nothing in RON anyway.
fn unjoined(between: &str) -> String {
    between.replace("\\\n", "\n").replace("\\\r\n", "\r\n")
}

/// What has to be written anew below this node: the leaves and the keys.
fn collect(node: &Node, pieces: &mut Vec<(Span, String)>) {
    match &node.kind {
        Kind::Scalar(_) | Kind::Secret(_) => {
            pieces.push((node.span, node.literal().to_text(Style::RON)));
        }
        Kind::List(items) | Kind::Tuple(items) => {
            for item in items {
                collect(item, pieces);
            }
        }
        Kind::Dict(entries) => {
            for entry in entries {
                let key = escape::encode(&entry.key, Style::RON.quote, Syntax::Ron);
                pieces.push((entry.key_span, key));
                collect(&entry.value, pieces);
            }
        }
        Kind::Generate(argument) => collect(argument, pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(python: &str, expected: &str) {
        let document = Document::parse("a.cmdb", python).unwrap();
        let (ron, lost) = document.to_ron();
        assert_eq!(ron, expected);
        assert_eq!(lost, Vec::<String>::new());
        let read = Document::parse("a.cmdb", &ron).unwrap();
        assert_eq!(read.syntax(), Syntax::Ron, "{ron}");
        assert_eq!(read.root().literal(), document.root().literal());
    }

    #[test]
    fn layout_and_comments_stay() {
        check(
            "# -*- python -*-\n\n[\n    ('disk', '$disk', 'size', 'gt(4)'),  # system\n]\n",
            "// -*- python -*-\n\n[\n    (\"disk\", \"$disk\", \"size\", \"gt(4)\"),  // system\n]\n",
        );
        check("[{'a': None, 'b': True}]", "[{\"a\": None, \"b\": true}]");
        check(
            "generate({'ip': '10.0.0.1-9',\n\t  'n': ('a', 'b')})",
            "generate({\"ip\": \"10.0.0.1-9\",\n\t  \"n\": (\"a\", \"b\")})",
        );
    }

    #[test]
    fn joined_lines_are_lines() {
        check("['a', \\\n 'b'] \\\n", "[\"a\", \n \"b\"] \n");
    }

    #[test]
    fn texts_are_written_anew() {
        check(
            r#"['it\'s', "say \"no\"", 'a' 'b', r'\d']"#,
            r#"["it's", "say \"no\"", "ab", "\\d"]"#,
        );
    }

    #[test]
    fn parentheses_around_one_literal_do_not_become_tuples() {
        check("[('a'), ((1)), ('b',)]", "[\"a\", 1, (\"b\",)]");
        check("[( # (why)\n 'a' 'b')]", "[ // (why)\n \"ab\"]");
        check("[{'k': ([1])}]", "[{\"k\": [1]}]");
    }

    #[test]
    fn a_comment_inside_a_joined_text_is_handed_back() {
        let document = Document::parse("a.cmdb", "[('a'  # why\n 'b')]").unwrap();
        let (ron, lost) = document.to_ron();
        assert_eq!(Document::parse("a", &ron).unwrap().root().items().map(<[Node]>::len), Some(1));
        assert_eq!(lost, ["why"]);
    }
}
