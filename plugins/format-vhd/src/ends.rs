//! The footer: at the end of the file, and in sparse images a copy at its beginning. Which of them counts?
//!
//! Neither end alone can be trusted. The first sector of a *fixed* image is its guest's, who may write what looks like a sparse image's
//! beginning there, with parents that it names; so a sound fixed footer at the end, where no guest writes, decides. In a *sparse* image
//! the beginning is out of the guest's reach, but a power cut may leave the end of the file within a block that was being allocated; so for
//! all else the copy at the beginning decides, and the end is written again from it.

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Halt, Outcome, Pages, PagesExt, Span};

use crate::{
    layout::{FOOTER_BYTES, Footer, Kind, SECTOR, footer_at},
    size,
};

/// The footer that counts, and what the file's ends are like.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// The footer that counts.
    pub(crate) footer: Footer,
    /// What kind of image it says it is.
    pub(crate) kind: Kind,
    /// Where the footer at the end is, in bytes, if it is sound and says the same.
    pub(crate) tail_at: Option<u64>,
    /// Whether the copy at the beginning is sound; always so in fixed images, which have none.
    pub(crate) front_sound: bool,
    /// Growing a fixed image was cut short: its footer is in the midst of the file, and it ends here.
    pub(crate) cut_growth: Option<u64>,
}

/// A footer somewhere, with where it is.
struct Found {
    footer: Footer,
    at: u64,
    raw: Vec<u8>,
}

/// Looks at both ends.
pub(crate) fn look(pages: &mut dyn Pages) -> Outcome<Ends> {
    let length = pages.file_length(FileId::MAIN);
    if length < SECTOR - 1 {
        return Err(not_vhd(length));
    }
    let tail = tail(pages, length)?;
    let front = match length >= SECTOR {
        true => Some(found(pages, 0, FOOTER_BYTES)?),
        false => None,
    };
    let front = front.filter(|front| front.footer.cookie == Footer::COOKIE);
    let sound = |found: &&Found| found.footer.is_valid();
    let sparse = |found: &&Found| found.footer.is_valid() && found.footer.kind() != Some(Kind::Fixed);
    if let Some(tail) = tail.as_ref().filter(|tail| tail.footer.disk_type.get() == Kind::Fixed.disk_type()) {
        check_sum(tail)?;
        return fixed(tail);
    }
    if let Some(front) = front.as_ref().filter(sparse) {
        let tail_at = tail.filter(|tail| tail.footer == front.footer && length.is_multiple_of(SECTOR));
        let kind = kind(front)?;
        let tail_at = tail_at.map(|tail| tail.at);
        return Ok(Ends { footer: front.footer.clone(), kind, tail_at, front_sound: true, cut_growth: None });
    }
    if let Some(tail) = tail.as_ref().filter(sound) {
        let tail_at = length.is_multiple_of(SECTOR).then_some(tail.at);
        let kind = kind(tail)?;
        return Ok(Ends { footer: tail.footer.clone(), kind, tail_at, front_sound: false, cut_growth: None });
    }
    if let Some(ends) = cut_growth(pages, length)? {
        return Ok(ends);
    }
    match tail.or(front) {
        Some(bad) => Err(check_sum(&bad).map_or_else(Halt::from, |()| not_vhd(length))),
        None => Err(not_vhd(length)),
    }
}

/// The image is none.
fn not_vhd(length: u64) -> Halt {
    let text = "neither the first nor the last sector has the cookie \"conectix\"";
    Fail {
        kind: FailKind::NotThisFormat,
        text: text.into(),
        at: Some((FileId::MAIN, length.saturating_sub(SECTOR))),
    }
    .into()
}

fn found(pages: &mut dyn Pages, at: u64, length: u32) -> Outcome<Found> {
    let raw = pages.bytes(Span::main(at, length))?;
    match Footer::of(&raw) {
        Some(footer) => Ok(Found { footer, at, raw }),
        None => Err(not_vhd(at)),
    }
}

/// What has a footer's cookie at the end: in the last 512 bytes, or, from writers before 2004, in the last 511.
fn tail(pages: &mut dyn Pages, length: u64) -> Outcome<Option<Found>> {
    let lengths =
        if length >= SECTOR { [FOOTER_BYTES, FOOTER_BYTES - 1].as_slice() } else { &[FOOTER_BYTES - 1] };
    for &footer_length in lengths {
        let found = found(pages, length - u64::from(footer_length), footer_length)?;
        if found.footer.cookie == Footer::COOKIE {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn check_sum(found: &Found) -> Result<(), Fail> {
    if found.footer.is_valid() {
        return Ok(());
    }
    let (field, sum) = (found.footer.checksum.get(), found.footer.sum());
    let text = format!("the footer's checksum is {field:#010x}, its bytes make {sum:#010x}");
    Err(Fail::corrupt(FileId::MAIN, found.at + footer_at::CHECKSUM, text))
}

/// Which kind of image a sound footer is of.
fn kind(found: &Found) -> Result<Kind, Fail> {
    let unsupported = |field, text: String| Fail {
        kind: FailKind::Unsupported,
        text,
        at: Some((FileId::MAIN, found.at + field)),
    };
    let version = found.footer.version.get();
    if version >> 16 != 1 {
        let text =
            format!("file format version {}.{}; 1.0 is what there is", version >> 16, version & 0xFFFF);
        return Err(unsupported(footer_at::VERSION, text));
    }
    let disk_type = found.footer.disk_type.get();
    let text = || format!("disk_type is {disk_type}; known are 2 (fixed), 3 (dynamic) and 4 (differencing)");
    Kind::of(disk_type).ok_or_else(|| unsupported(footer_at::DISK_TYPE, text()))
}

fn fixed(tail: &Found) -> Outcome<Ends> {
    let kind = kind(tail)?;
    let size = size::virtual_size(&tail.footer);
    if !tail.at.is_multiple_of(SECTOR) {
        let text = format!("the footer is at byte {}, which is no multiple of 512", tail.at);
        return Err(Fail::corrupt(FileId::MAIN, tail.at, text).into());
    }
    if size > tail.at {
        let text = format!(
            "the footer says that the disk has {size} bytes (current_size or geometry), before it are only {}",
            tail.at
        );
        return Err(Fail::corrupt(FileId::MAIN, tail.at + footer_at::CURRENT_SIZE, text).into());
    }
    let footer = tail.footer.clone();
    Ok(Ends { footer, kind, tail_at: Some(tail.at), front_sound: true, cut_growth: None })
}

/// A fixed image whose growth a power cut ended: the file has grown, and the new footer is not there. It grows by powers of two (see
/// `job::resize`), so the footer is one before the end.
fn cut_growth(pages: &mut dyn Pages, length: u64) -> Outcome<Option<Ends>> {
    if !length.is_multiple_of(SECTOR)
        || found(pages, length - SECTOR, FOOTER_BYTES)?.raw.iter().any(|&byte| byte != 0)
    {
        return Ok(None);
    }
    let places: Vec<u64> = (9..63).filter_map(|power| (length - SECTOR).checked_sub(1 << power)).collect();
    let spans: Vec<Span> = places.iter().map(|&at| Span::main(at, FOOTER_BYTES)).collect();
    for (bytes, at) in pages.all_bytes(&spans)?.into_iter().zip(places) {
        let footer =
            Footer::of(&bytes).filter(|footer| footer.is_valid() && footer.kind() == Some(Kind::Fixed));
        if let Some(footer) = footer {
            let mut ends = fixed(&Found { footer, at, raw: bytes })?;
            ends.cut_growth = Some(at + SECTOR);
            return Ok(Some(ends));
        }
    }
    Ok(None)
}
