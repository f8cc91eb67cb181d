//! Literal files of both syntaxes: printed, converted, edited.

use std::collections::BTreeSet;

use specs::cmdb::{Cmdb, Entry};
use specs::diagnostic::Code;
use specs::literal::{Document, Editor, Kind, Literal, Node, Style, Syntax};
use specs::value::Value;

/// A document is edited back to its text, and printed and read again in every style.
pub fn literal(bytes: &[u8]) {
    let document = match Document::parse_bytes("f", bytes) {
        Ok(document) => document,
        Err(finding) => return assert!(finding.line > 0 && !finding.to_string().is_empty()),
    };
    assert_eq!(document.edit().finish(), document.text());
    edited(&document);
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

/// A key and an item that come, and keys that go, leave every comment outside of them.
fn edited(document: &Document) {
    const KEY: &str = "a key of nobody's";
    fn mapping(document: &Document) -> Option<&Node> {
        let root = document.root();
        let mut nodes = std::iter::once(root).chain(root.items().unwrap_or_default());
        nodes.find(|node| node.entries().is_some() && node.get(KEY).is_none())
    }
    let after = |change: &dyn Fn(&mut Editor)| {
        let mut editor = document.edit();
        change(&mut editor);
        let text = editor.finish();
        match Document::parse("f", &text) {
            Ok(after) => after,
            Err(finding) => panic!("{finding}\n{text}"),
        }
    };
    let comments = |document: &Document| -> Vec<String> {
        let texts = document.comments().iter().map(|it| &document.text()[it.start..it.end]);
        texts.map(str::to_owned).collect()
    };
    if let Some(items) = document.root().items() {
        let longer = after(&|editor| editor.push(document.root(), &Literal::from(1)));
        assert_eq!(longer.root().items().map(<[_]>::len), Some(items.len() + 1));
        assert_eq!(comments(&longer), comments(document));
    }
    let Some(before) = mapping(document) else { return };
    let changed = after(&|editor| editor.set(before, &[(KEY, Literal::from(1))], &[]));
    assert_eq!(comments(&changed), comments(document), "{}", changed.text());
    let root = changed.root();
    let mut nodes = std::iter::once(root).chain(root.items().unwrap_or_default());
    let Some(longer) = nodes.find(|node| node.get(KEY).is_some()) else { panic!("{changed:?}") };
    assert_eq!(longer.get(KEY).and_then(Node::value), Some(Value::Integer(1)));
    let mut editor = changed.edit();
    editor.set(longer, &[], &[KEY]);
    let back = editor.finish();
    let read = Document::parse("f", &back).map(|back| back.root().literal());
    assert_eq!(read, Ok(document.root().literal()), "{back}");
    let key = before.entries().and_then(|entries| entries.first()).map(|entry| &entry.key);
    if let Some(key) = key {
        let other = Literal::from("another's");
        let replaced = after(&|editor| editor.set(before, &[(key, other.clone())], &[]));
        let node = mapping(&replaced).and_then(|mapping| mapping.get(key));
        assert_eq!(node.map(Node::literal), Some(other), "{}", replaced.text());
    }
    // A file of the original without any text of its own style may be read as RON afterwards.
    let keys: Vec<&str> =
        before.entries().unwrap_or_default().iter().map(|entry| entry.key.as_str()).collect();
    if document.syntax() == Syntax::Ron && !keys.is_empty() {
        let empty = after(&|editor| editor.set(before, &[], &keys));
        assert_eq!(mapping(&empty).and_then(Node::entries).map(<[_]>::len), Some(0));
        let swapped = after(&|editor| editor.set(before, &[(KEY, Literal::from(1))], &keys[..1]));
        assert_eq!(swapped.text().matches(KEY).count(), 1 + document.text().matches(KEY).count());
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
