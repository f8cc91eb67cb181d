mod files;
mod journal;
mod lock;
