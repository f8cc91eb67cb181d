//! The facts with every distinct text as a number, and lists of facts by class and key.

#![expect(clippy::disallowed_types, reason = "the maps are looked up and never iterated")]

use std::collections::HashMap;

use indexmap::IndexSet;

use crate::facts::Facts;
use crate::lang::{Line, Test, Truth, Unit};

/// The number of a text.
pub(crate) type TextId = u32;

#[derive(Debug)]
pub(crate) struct Index {
    /// The columns of every fact as numbers of texts.
    columns: Vec<[TextId; 4]>,
    /// Each once; its number is its place.
    texts: IndexSet<String>,
    by_class_and_key: HashMap<(TextId, TextId), Vec<u32>>,
    everything: Vec<u32>,
}

impl Index {
    pub(super) fn new(facts: &Facts) -> Index {
        let mut index = Index {
            columns: Vec::with_capacity(facts.0.len()),
            texts: IndexSet::new(),
            by_class_and_key: HashMap::new(),
            everything: Vec::with_capacity(facts.0.len()),
        };
        for (position, fact) in (0_u32..).zip(&facts.0) {
            let value = fact.3.text();
            let columns = [&fact.0, &fact.1, &fact.2, &*value].map(|text| index.intern(text));
            index.by_class_and_key.entry((columns[0], columns[2])).or_default().push(position);
            index.columns.push(columns);
            index.everything.push(position);
        }
        index
    }

    fn intern(&mut self, text: &str) -> TextId {
        let known = self.texts.get_index_of(text);
        let place = known.unwrap_or_else(|| self.texts.insert_full(text.to_owned()).0);
        TextId::try_from(place).unwrap_or(TextId::MAX)
    }

    /// The number of a text, if some fact holds it.
    fn id_of(&self, text: &str) -> Option<TextId> {
        self.texts.get_index_of(text).and_then(|place| TextId::try_from(place).ok())
    }

    /// How many different texts there are.
    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }

    /// The text of a column of a fact.
    pub(crate) fn text(&self, fact: usize, column: usize) -> &str {
        &self.texts[self.columns[fact][column] as usize]
    }

    pub(super) fn id(&self, fact: u32, column: usize) -> TextId {
        self.columns[fact as usize][column]
    }

    /// The facts with this value, in order.
    pub(crate) fn with_value<'i>(&'i self, text: &str) -> impl Iterator<Item = usize> + 'i {
        let id = self.id_of(text);
        let facts = if id.is_some() { &self.columns[..] } else { &[] };
        facts.iter().enumerate().filter(move |(_, it)| Some(it[3]) == id).map(|(fact, _)| fact)
    }

    /// Whether every text that a line names stands in some fact: the cheapest reason for a no.
    pub(super) fn knows_texts_of(&self, line: &Line) -> bool {
        line.columns.iter().all(|column| match &column.test {
            Some(Test::Literal(crate::value::Value::Text(text))) => self.texts.contains(text),
            _ => true,
        })
    }

    /// The facts that satisfy a line on its own, in order.
    pub(super) fn candidates<'i>(&'i self, line: &'i Line) -> impl Iterator<Item = u32> + 'i {
        let mut wanted: [Option<TextId>; 4] = [None; 4];
        // A text that no fact holds is found by no fact.
        let mut possible = true;
        for (position, column) in line.columns.iter().enumerate() {
            let Some(Test::Literal(value)) = &column.test else { continue };
            match self.id_of(&value.text()) {
                Some(id) => wanted[position] = Some(id),
                None => possible = false,
            }
        }
        let facts = match (wanted[0], wanted[2]) {
            _ if !possible => &[],
            (Some(class), Some(key)) => {
                self.by_class_and_key.get(&(class, key)).map_or(&[][..], Vec::as_slice)
            }
            _ => &self.everything,
        };
        let holds = move |fact: &u32| {
            let columns = &self.columns[*fact as usize];
            wanted.iter().zip(columns).all(|(wanted, id)| wanted.is_none_or(|wanted| wanted == *id))
                && agrees_with_itself(line, columns)
                && (0..4).all(|column| self.function(line, *fact as usize, column) == Truth::Yes)
        };
        facts.iter().copied().filter(holds)
    }

    /// What the function of a column, if it has one, says of a fact.
    pub(crate) fn function(&self, line: &Line, fact: usize, column: usize) -> Truth {
        match &line.columns[column].test {
            Some(Test::Function(function)) => {
                function.of(self.text(fact, column), self.unit(fact, column))
            }
            _ => Truth::Yes,
        }
    }

    /// The unit of a column of a fact: only values have one.
    pub(crate) fn unit(&self, fact: usize, column: usize) -> Option<Unit> {
        let text = |column| self.text(fact, column);
        if column == 3 { Unit::of_fact(text(0), text(1), text(2)) } else { None }
    }
}

/// A variable that stands in two columns of a line must have one value.
fn agrees_with_itself(line: &Line, ids: &[TextId; 4]) -> bool {
    (1..4).all(|right| {
        let Some(variable) = &line.columns[right].variable else { return true };
        (0..right).all(|left| {
            ids[left] == ids[right]
                || line.columns[left].variable.as_ref().is_none_or(|v| v.name != variable.name)
        })
    })
}
