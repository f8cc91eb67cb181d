//! Builds vmlinuz and initrd.pxe.

fn main() {}
