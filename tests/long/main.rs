//! The long tests, behind `scripts/test --all GROUP`: one module a group.

mod boot;
mod language;
mod server;
mod upgrade;
