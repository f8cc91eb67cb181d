//! Role trees and installed hosts.

mod power_cut;
mod power_cut_machine;
mod reproducible;
