//! Role trees and installed hosts.

mod reproducible;
