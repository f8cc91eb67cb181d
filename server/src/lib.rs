//! One function, `handle(request) -> response`, behind two fronts.
//!
//! ```text
//! edeploy-server serve ── http ─┐
//!                               ├─ handle ── store ── specs::fleet
//! edeploy-cgi ─────────── cgi ──┘
//! ```
//!
//! Reading order: [`settings`] (edeploy.conf), [`request`] and [`form`] (what arrives),
//! [`handle`] (what becomes of it), [`store`] (how it is kept), [`http`], [`cgi`] and [`serve`]
//! (the fronts), [`resident`] (who answers for CGI programs), [`retention`], [`logging`], [`memory`],
//! [`admin`] (what operators see). Decisions are made in `specs::fleet`, never here.

pub mod admin;
pub mod cgi;
pub mod form;
pub mod handle;
pub mod http;
pub mod logging;
mod logs;
pub mod memory;
mod rate;
mod reply;
pub mod request;
pub mod resident;
pub mod retention;
pub mod serve;
pub mod settings;
pub mod store;
