//! One function, `handle(request) -> response`, behind two fronts.
//!
//! Reading order: [`settings`] (edeploy.conf), [`request`] (what a front hands over), [`form`]
//! (what an upload is made of).

pub mod form;
pub mod request;
pub mod settings;
