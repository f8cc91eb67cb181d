//! Group `boot`: the main job on disks that hang elsewhere.
