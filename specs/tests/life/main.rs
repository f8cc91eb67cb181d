//! The life of machines, its files and its corpus, tested through the public interface alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod by_hand;
mod check;
mod corpus;
mod corpus_uploads;
mod findings;
mod hall;
mod hand_edits;
mod identity;
mod journaled_entries;
mod model;
mod reports;
mod retire;
mod secrets;
mod table;
mod trial;
