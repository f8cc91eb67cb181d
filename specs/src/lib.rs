//! What is *said* between the people, the server and the machines: facts, the spec language,
//! matching, CMDB, state, configure, plans, events and the wire.
//!
//! The crate decides and never acts: no I/O, no clock, no randomness. Time, nonces and file
//! texts are arguments; equal inputs give equal outputs, byte for byte.
//!
//! Reading order: [`value`] and [`units`] (the vocabulary), [`literal`] and [`diagnostic`] (how
//! files are read), [`facts`] (what a machine is), [`lang`], [`matching`] and [`explain`] (whether
//! it fits, and why not), [`configure`] (what the admin wants), [`plan`] (what will be done),
//! [`state`], [`cmdb`] and [`machine`] (what the server keeps), [`event`] and [`wire`] (what is
//! told to whom), [`fleet`] (the life of machines), [`upgrade`] (from one version of a role to the
//! next).

pub mod catalog;
pub mod check;
pub mod cmdb;
pub mod configure;
pub mod diagnostic;
pub mod dialect;
pub mod event;
pub mod explain;
pub mod facts;
pub mod fleet;
pub mod ids;
pub mod import;
pub mod lang;
pub mod literal;
pub mod machine;
pub mod matching;
pub mod metadata;
pub mod plan;
pub mod secret;
pub mod state;
pub mod units;
pub mod upgrade;
pub mod value;
pub mod wire;
