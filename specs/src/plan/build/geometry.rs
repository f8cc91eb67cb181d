//! Where partitions lie: wishes such as `512MiB`, `20%` and `rest` become sectors.
//!
//! Everything starts and ends on a whole MiB, whatever the sector size. GPT keeps its backup
//! at the end of the disk; MBR counts sectors in 32 bits and has four partitions.

use crate::configure::TableKind;
use crate::units::{Bytes, SectorSize};

/// The size of a partition as wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// At least this much, rounded up to a MiB.
    Absolute(Bytes),
    /// This part of what the table leaves, rounded down to a MiB.
    Percent(u64),
    /// What all others leave.
    Rest,
}

/// One partition to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// How large.
    pub(super) size: Size,
    /// The least that what goes into it can live with.
    pub(super) minimum: Bytes,
}

/// Where a partition lies, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First sector.
    pub(super) start: u64,
    /// How many.
    pub(super) sectors: u64,
}

/// Why partitions cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayoutError {
    /// The table has no more entries than this.
    TooMany { limit: usize },
    /// The disk has more sectors than an MBR can count.
    BeyondMsdos { reach: Bytes },
    /// All together need more than the disk has for them.
    TooSmall { needed: Bytes },
    /// Two partitions want the rest.
    RestTwice { position: usize },
    /// One would be smaller than its contents need.
    BelowMinimum { position: usize, given: Bytes },
}

impl Size {
    /// Reads `512MiB`, `10GB`, `20%` or `rest`; `100%` is `rest` on the last partition.
    pub(super) fn parse(text: &str, last: bool) -> Option<Size> {
        if text == "rest" || (text == "100%" && last) {
            return Some(Size::Rest);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let unit: u64 = match &text[digits..] {
            "%" => return (1..100).contains(&number).then_some(Size::Percent(number)),
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return None,
        };
        let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0)?;
        Some(Size::Absolute(Bytes(bytes)))
    }
}

/// The first sector that no partition may touch: the end of the disk, or the backup of its GPT.
pub(in crate::plan) fn end(table: TableKind, disk: Bytes, sector: SectorSize) -> u64 {
    let backup = match table {
        // The header, and 128 entries of 128 bytes.
        TableKind::Gpt => 1 + Bytes(128 * 128).sectors(sector),
        TableKind::Msdos => 0,
    };
    disk.sectors(sector).saturating_sub(backup)
}

/// The whole MiB that partitions may use: first sector and first sector after them.
pub(in crate::plan) fn usable(table: TableKind, disk: Bytes, sector: SectorSize) -> (u64, u64) {
    let align = Bytes::MIB.sectors(sector);
    let end = end(table, disk, sector) / align * align;
    (align, end.max(align))
}

/// Places all partitions of a disk, in order.
pub(super) fn lay_out(
    table: TableKind,
    disk: Bytes,
    sector: SectorSize,
    wishes: &[Wish],
) -> Result<Vec<Extent>, LayoutError> {
    let limit = match table {
        TableKind::Gpt => 128,
        TableKind::Msdos => 4,
    };
    if wishes.len() > limit {
        return Err(LayoutError::TooMany { limit });
    }
    let reach = (1 << 32) * u64::from(sector.get());
    if table == TableKind::Msdos && disk.0 > reach {
        return Err(LayoutError::BeyondMsdos { reach: Bytes(reach) });
    }
    let (start, end) = usable(table, disk, sector);
    let sizes = sizes(wishes, end - start, sector)?;
    let mut next = start;
    Ok(sizes
        .into_iter()
        .map(|sectors| {
            let extent = Extent { start: next, sectors };
            next += sectors;
            extent
        })
        .collect())
}

/// How many sectors each partition gets of `capacity`.
fn sizes(wishes: &[Wish], capacity: u64, sector: SectorSize) -> Result<Vec<u64>, LayoutError> {
    let align = Bytes::MIB.sectors(sector);
    let up = |bytes: Bytes| bytes.0.div_ceil(Bytes::MIB.0).saturating_mul(align);
    let mut rest = None;
    let mut taken: u64 = 0;
    let mut needed: u64 = 0;
    let mut sizes = Vec::with_capacity(wishes.len());
    for (position, wish) in wishes.iter().enumerate() {
        let sectors = match wish.size {
            Size::Absolute(bytes) => up(bytes),
            // Sectors fit in 55 bits: this cannot overflow.
            Size::Percent(percent) => capacity * percent / 100 / align * align,
            Size::Rest if rest.is_some() => return Err(LayoutError::RestTwice { position }),
            Size::Rest => {
                rest = Some(position);
                0
            }
        };
        taken = taken.saturating_add(sectors);
        needed = needed.saturating_add(sectors.max(up(wish.minimum)));
        sizes.push(sectors);
    }
    if let Some(position) = rest {
        sizes[position] = capacity.saturating_sub(taken);
    }
    let bytes = |sectors: u64| Bytes(sectors.saturating_mul(u64::from(sector.get())));
    if taken > capacity || (rest.is_some() && needed > capacity) {
        // One MiB before the first partition, one for the end of the disk.
        let ends = 2 * Bytes::MIB.0;
        return Err(LayoutError::TooSmall { needed: Bytes(bytes(needed).0.saturating_add(ends)) });
    }
    let small =
        (0..wishes.len()).find(|&position| bytes(sizes[position]) < wishes[position].minimum);
    match small {
        Some(position) => {
            Err(LayoutError::BelowMinimum { position, given: bytes(sizes[position]) })
        }
        None => Ok(sizes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn wish(size: &str) -> Wish {
        Wish { size: Size::parse(size, true).unwrap(), minimum: Bytes(8 * MIB) }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("512MiB", Some(Size::Absolute(Bytes(512 * MIB)))),
            ("4KiB", Some(Size::Absolute(Bytes(4096)))),
            ("3GiB", Some(Size::Absolute(Bytes(3 * GIB)))),
            ("2TiB", Some(Size::Absolute(Bytes(2 << 40)))),
            ("5kB", Some(Size::Absolute(Bytes(5000)))),
            ("5KB", Some(Size::Absolute(Bytes(5000)))),
            ("5MB", Some(Size::Absolute(Bytes(5_000_000)))),
            ("10GB", Some(Size::Absolute(Bytes(10_000_000_000)))),
            ("2TB", Some(Size::Absolute(Bytes(2_000_000_000_000)))),
            ("1%", Some(Size::Percent(1))),
            ("99%", Some(Size::Percent(99))),
            ("20%", Some(Size::Percent(20))),
            ("rest", Some(Size::Rest)),
            ("100%", Some(Size::Rest)),
            ("0%", None),
            ("101%", None),
            ("0MiB", None),
            ("512", None),
            ("10G", None),
            ("-1GiB", None),
            ("1.5GiB", None),
            ("99999999999TiB", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(Size::parse(text, true), expected, "{text}");
        }
        assert_eq!(Size::parse("100%", false), None);
    }

    #[test]
    fn partitions_lie_on_whole_mib_and_leave_the_tables_alone() {
        use TableKind::{Gpt, Msdos};
        let check = |table, disk: u64, sector: u32, sizes: &[&str], expected: &[(u64, u64)]| {
            let wishes: Vec<Wish> = sizes.iter().map(|size| wish(size)).collect();
            let sector = SectorSize::try_from(sector).unwrap();
            let extents = lay_out(table, Bytes(disk), sector, &wishes).unwrap();
            let extents: Vec<(u64, u64)> = extents.iter().map(|e| (e.start, e.sectors)).collect();
            assert_eq!(extents, expected, "{sizes:?}");
        };
        // 10 GiB: GPT's backup costs the last MiB, MBR has none.
        check(Gpt, 10 * GIB, 512, &["rest"], &[(2048, 20_967_424)]);
        check(Msdos, 10 * GIB, 512, &["rest"], &[(2048, 20_969_472)]);
        check(Gpt, 10 * GIB, 4096, &["rest"], &[(256, 2_620_928)]);
        // As much as the table of an MBR can say.
        check(Msdos, 2048 * GIB, 512, &["rest"], &[(2048, 4_294_965_248)]);
        let four = [2048, 20_480, 38_912, 57_344].map(|start| (start, 18_432));
        check(Msdos, GIB, 512, &["9MiB"; 4], &four);
        // The rest may stand in the middle.
        check(
            Gpt,
            GIB,
            512,
            &["100MiB", "rest", "10%"],
            &[(2048, 204_800), (206_848, 1_679_360), (1_886_208, 208_896)],
        );
        // To the last sector.
        check(Gpt, GIB, 512, &["1022MiB"], &[(2048, 2_093_056)]);
        check(Gpt, GIB, 512, &["1014MiB", "rest"], &[(2048, 2_076_672), (2_078_720, 16_384)]);
        // Rounded up to a MiB, here from 100 MB.
        check(Gpt, GIB, 512, &["100MB"], &[(2048, 196_608)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use TableKind::{Gpt, Msdos};
        let check = |table, disk: u64, sizes: &[&str], expected: LayoutError| {
            let wishes: Vec<Wish> = sizes.iter().map(|size| wish(size)).collect();
            let found = lay_out(table, Bytes(disk), SectorSize::DEFAULT, &wishes);
            assert_eq!(found, Err(expected), "{sizes:?}");
        };
        let needed = |mib: u64| LayoutError::TooSmall { needed: Bytes(mib * MIB) };
        check(Gpt, GIB, &["2GiB"], needed(2050));
        check(Gpt, GIB, &["1022MiB", "rest"], needed(1032));
        check(Gpt, 0, &["rest"], needed(10));
        check(Gpt, GIB, &["rest", "rest"], LayoutError::RestTwice { position: 1 });
        check(
            Gpt,
            GIB,
            &["4MiB"],
            LayoutError::BelowMinimum { position: 0, given: Bytes(4 * MIB) },
        );
        check(Msdos, GIB, &["9MiB"; 5], LayoutError::TooMany { limit: 4 });
        let reach = Bytes(2048 * GIB);
        check(Msdos, 4096 * GIB, &["rest"], LayoutError::BeyondMsdos { reach });
    }
}
