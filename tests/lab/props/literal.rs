//! Literal files of both syntaxes: printed, converted, changed in place.

use std::collections::BTreeSet;

use specs::cmdb::{Cmdb, Entry};
use specs::diagnostic::{Code, Span};
use specs::literal::{Document, Kind, Literal, Node, Style};
use specs::value::Value;

/// A document whose leaves are replaced keeps the rest, and it is printed and read again in every style.
pub fn literal(bytes: &[u8]) {
    let document = match Document::parse_bytes("f", bytes) {
        Ok(document) => document,
        Err(finding) => return assert!(finding.line > 0 && !finding.to_string().is_empty()),
    };
    assert_eq!(document.replaced([]), document.text());
    replaced(&document);
    item_by_item(&document);
    let literal = document.root().literal();
    for style in [Style::RON, Style::PYTHON] {
        let printed = literal.to_file(style);
        let read = Document::parse("f", &printed).map(|read| read.root().literal());
        assert_eq!(read.as_ref(), Ok(&literal), "{printed}");
    }
    let (ron, _) = document.to_ron();
    let read = Document::parse("f", &ron).map(|read| read.root().literal());
    assert_eq!(read, Ok(literal), "{ron}");
    let Some(value) = document.root().value() else { return };
    let printed = Literal::Value(value.clone()).to_file(document.style());
    let read = Document::parse("f", &printed).map(|read| read.root().value());
    assert_eq!(read, Ok(Some(value)), "{printed}");
}

/// Leaves that are replaced leave every comment outside of them, and all that is no leaf.
fn replaced(document: &Document) {
    fn leaves<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
        match &node.kind {
            Kind::Scalar(_) | Kind::Secret(_) => found.push(node),
            Kind::List(items) | Kind::Tuple(items) => {
                items.iter().for_each(|item| leaves(item, found));
            }
            Kind::Dict(entries) => entries.iter().for_each(|entry| leaves(&entry.value, found)),
            Kind::Generate(argument) => leaves(argument, found),
        }
    }
    fn with(new: &Literal, literal: Literal) -> Literal {
        let all = |items: Vec<Literal>| items.into_iter().map(|item| with(new, item)).collect();
        match literal {
            Literal::Value(_) | Literal::Secret(_) => new.clone(),
            Literal::List(items) => Literal::List(all(items)),
            Literal::Tuple(items) => Literal::Tuple(all(items)),
            Literal::Dict(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key, with(new, value)));
                Literal::Dict(entries.collect())
            }
            Literal::Generate(argument) => Literal::Generate(Box::new(with(new, *argument))),
        }
    }
    let mut all = Vec::new();
    leaves(document.root(), &mut all);
    let gone = |place: &Span| {
        let after = all.partition_point(|leaf| leaf.span.end <= place.start);
        all.get(after).is_some_and(|leaf| leaf.span.start < place.start)
    };
    let text =
        |document: &Document, place: &Span| document.text()[place.start..place.end].to_owned();
    let kept = document.comments().iter().filter(|place| !gone(place));
    let kept: Vec<String> = kept.map(|place| text(document, place)).collect();
    for new in [Literal::from(7), Literal::from("another's \"one\"")] {
        let after = document.replaced(all.iter().map(|leaf| (*leaf, new.clone())));
        let read = match Document::parse("f", &after) {
            Ok(read) => read,
            Err(finding) => panic!("{finding}\n{after}"),
        };
        assert_eq!(read.root().literal(), with(&new, document.root().literal()), "{after}");
        assert_eq!(read.syntax(), document.syntax(), "{after}");
        let left: Vec<String> = read.comments().iter().map(|place| text(&read, place)).collect();
        // The first line may have come to tell the syntax.
        assert!(left.ends_with(&kept) && left.len() <= kept.len() + 1, "{after}");
    }
}

/// A list that is read item by item, as CMDBs are, holds what it holds read as a whole.
fn item_by_item(document: &Document) {
    let root = document.root();
    let told = document.warning(Code::CmdbShape, root.span, root.describe());
    assert!(told.line > 0 && told.message.starts_with(|c: char| c.is_alphabetic()), "{told}");
    assert_eq!(root.as_text().is_some(), root.describe() == "a text");
    let cmdb = Cmdb::parse(document.file(), document.text(), &BTreeSet::new());
    let Kind::List(items) = &root.kind else { return };
    let held = |item: &Node| {
        let entries = item.entries()?.iter();
        entries.map(|entry| Some((entry.key.clone(), entry.value.value()?))).collect()
    };
    let held: Option<Vec<Vec<(String, Value)>>> = items.iter().map(held).collect();
    let read = cmdb.ok().map(|cmdb| {
        let fields = |entry: Entry| entry.fields.into_iter().map(|field| (field.key, field.value));
        cmdb.entries().map(|entry| fields(entry).collect()).collect()
    });
    assert_eq!(read, held, "{}", document.text());
}
