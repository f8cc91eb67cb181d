//! The life of machines, its files and its corpus, tested through the public interface alone.

mod hall;
mod identity;
mod table;
