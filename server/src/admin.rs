//! What the commands of `edeploy-server` show and say; the binary parses, calls and prints.

pub mod commands;
pub mod edit;
pub mod explain;
pub mod import;
pub mod machines;
pub mod match_cmd;
pub mod metadata;
pub mod verify_cmdb;
