//! One function, `handle(request) -> response`, behind two fronts.
//!
//! Reading order: [`settings`] (edeploy.conf), [`request`] (what a front hands over), [`form`]
//! (what an upload is made of),
//! [`http`] and [`cgi`] (the fronts).

pub mod cgi;
pub mod form;
pub mod http;
mod logs;
mod reply;
pub mod request;
pub mod settings;
pub mod store;
