//! How big the disk is: by its geometry or by its size field, as who made the image meant it.

use alloc::format;

use stampede_plugin::{Fail, FailKind};

use crate::layout::Footer;

/// The largest disk: 2,040 GiB.
pub(crate) const SIZE_MAX: u64 = 2040 << 30;
/// Makers of whose images the geometry tells the size: Virtual PC, Virtual Server, QEMU of old.
const BY_GEOMETRY: [&[u8; 4]; 3] = [b"vpc ", b"vs  ", b"qemu"];

/// Cylinders, heads and sectors per track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) cylinders: u16,
    pub(crate) heads: u8,
    pub(crate) sectors_per_track: u8,
}

impl Geometry {
    /// The largest one. It says nothing of the size: then all readers go by the size field.
    pub(crate) const MAX: Self = Self { cylinders: 0xFFFF, heads: 16, sectors_per_track: 255 };

    /// What it makes in bytes.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors_per_track) * 512
    }

    /// The geometry for a disk of so many sectors ("Appendix: CHS Calculation"): what it makes may be less.
    fn calculated(sectors: u64) -> Self {
        let sectors = sectors.min(65535 * 16 * 255);
        let (heads, per_track, tracks) = if sectors >= 65535 * 16 * 63 {
            (16, 255, sectors / 255)
        } else {
            let tracks = sectors / 17;
            let heads = tracks.div_ceil(1024).max(4);
            if tracks < heads * 1024 && heads <= 16 {
                (heads, 17, tracks)
            } else if sectors / 31 < 16 * 1024 {
                (16, 31, sectors / 31)
            } else {
                (16, 63, sectors / 63)
            }
        };
        Self {
            cylinders: u16::try_from(tracks / heads).unwrap_or(u16::MAX),
            heads: u8::try_from(heads).unwrap_or(16),
            sectors_per_track: per_track,
        }
    }

    /// The geometry to write down for a disk of so many bytes: the calculated one when it makes just that, so that all readers agree.
    pub(crate) fn for_size(bytes: u64) -> Self {
        let calculated = Self::calculated(bytes / 512);
        if calculated.bytes() == bytes { calculated } else { Self::MAX }
    }
}

/// The size of a footer's disk in bytes.
pub(crate) fn virtual_size(footer: &Footer) -> u64 {
    let geometry = Geometry {
        cylinders: footer.cylinders.get(),
        heads: footer.heads,
        sectors_per_track: footer.sectors_per_track,
    };
    let by_geometry = BY_GEOMETRY.contains(&&footer.creator_app);
    if by_geometry && geometry != Geometry::MAX && geometry.bytes() > 0 {
        return geometry.bytes();
    }
    footer.current_size.get() / 512 * 512
}

/// Refuses a size that an image cannot be given.
pub(crate) fn check(size: u64) -> Result<(), Fail> {
    if size == 0 || !size.is_multiple_of(512) || size > SIZE_MAX {
        let text = format!(
            "a disk of {size} bytes: a VHD has a multiple of 512, more than 0 and at most {SIZE_MAX} (2,040 GiB)"
        );
        return Err(Fail::new(FailKind::Invalid, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Geometry;

    /// Sizes in sectors, and what the steps of the specification make of them by hand.
    #[test]
    fn geometry_is_the_specifications() {
        for (sectors, expected) in [
            (131_072, (963, 8, 17)),
            (2_097_152, (2080, 16, 63)),
            (41_943_040, (41_610, 16, 63)),
            (65_535 * 16 * 255 + 1, (65_535, 16, 255)),
        ] {
            let found = Geometry::calculated(sectors);
            let (cylinders, heads, sectors_per_track) = expected;
            assert_eq!(found, Geometry { cylinders, heads, sectors_per_track }, "{sectors}");
        }
    }

    #[test]
    fn a_geometry_is_written_only_where_it_tells_the_size() {
        assert_eq!(Geometry::for_size(64 << 20), Geometry::MAX);
        let exact = Geometry::calculated(131_072);
        assert_eq!(Geometry::for_size(exact.bytes()), exact);
    }
}
