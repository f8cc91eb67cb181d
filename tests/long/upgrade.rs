//! Role trees and installed hosts.

mod interrupted;
mod reproducible;
