//! Values of a document put in the place of others, with every other byte as it was.
//!
//! Comments stay, except for those within a literal that is replaced. The entries of a CMDB are
//! written anew as a whole, by [`crate::cmdb`].

use super::{Document, Literal, Node, print};
use crate::diagnostic::Span;

impl Document {
    /// The text with literals in the places of these nodes, which come in the order of the file
    /// and none within another. Redundant parentheses around a node go with it unless a comment
    /// stands in them. When nothing else is left that tells the syntax, a first line does.
    pub fn replaced<'a>(&self, changes: impl IntoIterator<Item = (&'a Node, Literal)>) -> String {
        let mut text = String::with_capacity(self.text.len() + 64);
        let mut at = 0;
        for (node, literal) in changes {
            let place = self.place_of(node);
            text.push_str(&self.text[at..place.start]);
            literal.write(self.style, &mut text);
            at = place.end;
        }
        text.push_str(&self.text[at..]);
        print::telling_syntax(text, self.syntax)
    }

    /// What is replaced when a node is.
    fn place_of(&self, node: &Node) -> Span {
        let before = Span { start: node.outer.start, end: node.span.start };
        let after = Span { start: node.span.end, end: node.outer.end };
        let commented = [before, after].into_iter().any(|part| self.has_comment_in(part));
        if commented { node.span } else { node.outer }
    }

    fn has_comment_in(&self, place: Span) -> bool {
        let first = self.comments.partition_point(|span| span.start < place.start);
        self.comments.get(first).is_some_and(|span| span.start < place.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value in the mappings of a list, replaced.
    #[track_caller]
    fn check(before: &str, value: &str, expected: &str) {
        let value = Literal::from(value);
        let document = Document::parse("f", before).unwrap_or_else(|error| panic!("{error}"));
        let items = document.root().items().unwrap();
        let entries = items.iter().flat_map(|item| item.entries().unwrap());
        let after = document.replaced(entries.map(|entry| (&entry.value, value.clone())));
        assert_eq!(after, expected, "{before}");
        let keys = |item: &Node| -> Vec<(String, Literal)> {
            let entries = item.entries().unwrap().iter();
            entries.map(|entry| (entry.key.clone(), value.clone())).collect()
        };
        let wanted = Literal::List(items.iter().map(|item| Literal::Dict(keys(item))).collect());
        let read = Document::parse("f", &after).unwrap_or_else(|error| panic!("{after}\n{error}"));
        assert_eq!((read.root().literal(), read.syntax()), (wanted, document.syntax()), "{after}");
    }

    #[test]
    fn a_new_value_is_the_only_difference() {
        check("[{ 'a' :('old') , 'b':2 }]", "new", "[{ 'a' :'new' , 'b':'new' }]");
        check("[{'a': 0x10, \"b\": 'x' 'y'}]", "it's", "[{'a': 'it\\'s', \"b\": 'it\\'s'}]");
        check(
            "[{'a': ((\n1))},\r\n{\t}, {'b': {'c': [2],},},]",
            "new",
            "[{'a': 'new'},\r\n{\t}, {'b': 'new',},]",
        );
        // Quoted as most texts of the file are.
        check("# c\n[{\"a\": True, \"b\": 'x'}]", "new", "# c\n[{\"a\": \"new\", \"b\": \"new\"}]");
    }

    #[test]
    fn comments_around_a_changed_value_stay() {
        check("[{'a' # c\n : ( # d\n 'x')}]", "2", "[{'a' # c\n : ( # d\n '2')}]");
        check("[{'a': ('x' # d\n) , }]", "2", "[{'a': ('2' # d\n) , }]");
        // One that begins where the value ends, and one where the parentheses do.
        check("[{'a': ('x'# d\n)}]", "2", "[{'a': ('2'# d\n)}]");
        check("[{'a': ('x')# d\n}]", "2", "[{'a': '2'# d\n}]");
        check(
            "[{\"a\" /* c */ : /* d */ r\"\\\" /* e */}]",
            "2",
            "[{\"a\" /* c */ : /* d */ \"2\" /* e */}]",
        );
        check(
            "# c\n[{ # one, 'two'\n  'a': 1  # d\n  , # e\n  'b': ((2)), } # f\n] # g",
            "2",
            "# c\n[{ # one, 'two'\n  'a': '2'  # d\n  , # e\n  'b': '2', } # f\n] # g",
        );
    }

    #[test]
    fn what_goes_may_be_all_that_told_the_syntax() {
        // In RON, parentheses around a list are a tuple and two texts in a row a mistake.
        check(
            "[{(\"a\"): 'x', \"b\" \"c\": 1}]",
            "new",
            "# -*- python -*-\n[{(\"a\"): \"new\", \"b\" \"c\": \"new\"}]",
        );
        check(
            "\u{feff}[{\"a\": True, \"b\": None}]",
            "new",
            "\u{feff}# -*- python -*-\n[{\"a\": \"new\", \"b\": \"new\"}]",
        );
    }
}
