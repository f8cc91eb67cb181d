//! The properties of `lab`, compiled without the rest of the harness.

#[path = "../../lab/props.rs"]
pub mod props;
