pub(crate) mod files;
mod journal;
mod lock;
