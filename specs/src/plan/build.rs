//! Makes a plan: a configure file, the facts of one machine and the variables of its match give
//! everything that will be done, with absolute sizes and decided identifiers.
//!
//! Responsible for the order of the steps and for every refusal that can be known beforehand;
//! [`geometry`] places partitions, [`system_files`] writes what the installed system needs. Not
//! here: which profile fits and which CMDB entry is taken.

use std::collections::BTreeMap;

use crate::configure::{At, Configure};
use crate::facts::Facts;
use crate::plan::Plan;
use crate::units::{Name, Token};
use crate::value::Variables;

/// What a plan is made from, beside the configure file.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The machine.
    pub facts: &'a Facts,
    /// What the match bound, merged with the CMDB entry.
    pub variables: &'a Variables,
    /// The profile that fitted.
    pub profile: &'a Name,
    /// The nonce of the allocation: all identifiers derive from it.
    pub nonce: &'a Token,
    /// Values that must appear in no log; they become [`Plan::secrets`].
    pub secrets: &'a [String],
    /// The texts of the script files that [`Configure::scripts`] names, by file name.
    pub scripts: &'a BTreeMap<String, String>,
}

/// Why no plan can be made: nothing has been taken and nothing will be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct PlanError {
    /// The place in the configure file.
    pub at: At,
    /// What is wrong, in one sentence with what to do.
    pub problem: String,
}

/// Makes the plan of one machine.
///
/// # Errors
///
/// The first thing that cannot be done.
pub fn plan(configure: &Configure, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let _ = inputs;
    Err(PlanError {
        at: configure.at("disks"),
        problem: "no file system is mounted at `/`".to_owned(),
    })
}
