//! Role trees and installed hosts.

mod interrupted;
mod power_cut;
mod power_cut_machine;
mod reproducible;
