//! A second reader of VHD, written from the format's description and sharing nothing with the plugin: what it reads is what any tool
//! would. It looks at the copy of the footer at the beginning first, as most tools do, and believes nothing that does not add up.

/// An image as its bytes have it.
pub(crate) struct Reader<'a> {
    file: &'a [u8],
    /// 2, 3 or 4.
    pub(crate) disk_type: u32,
    /// In bytes.
    pub(crate) size: u64,
    /// Table's place, entries, block's bytes.
    table: Option<(usize, usize, usize)>,
    /// The parent's UUID.
    pub(crate) parent_uuid: [u8; 16],
    pub(crate) uuid: [u8; 16],
    /// The locators that are in use: code and bytes.
    pub(crate) locators: Vec<([u8; 4], Vec<u8>)>,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut value = 0;
    for index in 0..length {
        value = value * 256 + u64::from(bytes[at + index]);
    }
    value
}

fn place(bytes: &[u8], at: usize, length: usize) -> usize {
    usize::try_from(number(bytes, at, length)).unwrap()
}

/// The one's complement of the sum of the bytes, without those of the field itself.
fn checksum(bytes: &[u8], field: usize) -> u64 {
    let mut sum = 0_u32;
    for (index, byte) in bytes.iter().enumerate() {
        if index < field || index >= field + 4 {
            sum += u32::from(*byte);
        }
    }
    u64::from(u32::MAX - sum)
}

fn is_footer(bytes: &[u8]) -> bool {
    bytes.len() == 512 && &bytes[..8] == b"conectix" && number(bytes, 64, 4) == checksum(bytes, 64)
}

impl<'a> Reader<'a> {
    /// An image in which everything is in order: footers too.
    pub(crate) fn strict(file: &'a [u8]) -> Result<Self, String> {
        let tail = &file[file.len() - 512..];
        if !is_footer(tail) {
            return Err("no footer at the end".into());
        }
        let reader = Self::new(file)?;
        if reader.disk_type != 2 && tail != &file[..512] {
            return Err("the two footers differ".into());
        }
        Ok(reader)
    }

    /// An image, whatever its end is like if it is a sparse one.
    pub(crate) fn new(file: &'a [u8]) -> Result<Self, String> {
        let tail = &file[file.len().saturating_sub(512)..];
        let fixed = is_footer(tail) && number(tail, 60, 4) == 2;
        let footer = if fixed { tail } else { file.get(..512).ok_or("too short")? };
        if !is_footer(footer) {
            return Err("no footer".into());
        }
        let geometry = number(footer, 56, 2) * number(footer, 58, 1) * number(footer, 59, 1) * 512;
        let old = [&b"vpc "[..], b"vs  ", b"qemu"].contains(&&footer[28..32]);
        let size = if old && geometry != 65535 * 16 * 255 * 512 { geometry } else { number(footer, 48, 8) };
        let disk_type = u32::try_from(number(footer, 60, 4)).unwrap();
        let uuid = footer[68..84].try_into().unwrap();
        let mut reader =
            Reader { file, disk_type, size, table: None, parent_uuid: [0; 16], uuid, locators: vec![] };
        if disk_type != 2 {
            reader.read_header(place(footer, 16, 8))?;
        }
        Ok(reader)
    }

    fn read_header(&mut self, at: usize) -> Result<(), String> {
        let header = self.file.get(at..at + 1024).ok_or("the header is beyond the end")?;
        if &header[..8] != b"cxsparse" || number(header, 36, 4) != checksum(header, 36) {
            return Err("a bad header".into());
        }
        let (table, entries, block) = (place(header, 16, 8), place(header, 28, 4), place(header, 32, 4));
        if ((entries * block) as u64) < self.size || table + entries * 4 > self.file.len() {
            return Err("a table too short".into());
        }
        self.table = Some((table, entries, block));
        self.parent_uuid = header[40..56].try_into().unwrap();
        for index in 0..8 {
            let locator = &header[576 + 24 * index..][..24];
            if number(locator, 0, 4) != 0 {
                let (length, from) = (place(locator, 8, 4), place(locator, 16, 8));
                let name = self.file.get(from..from + length).ok_or("a locator beyond the end")?;
                self.locators.push((locator[..4].try_into().unwrap(), name.to_vec()));
            }
        }
        self.no_overlaps()
    }

    /// No two blocks, and no block and the head of the image, share a byte.
    fn no_overlaps(&self) -> Result<(), String> {
        let (table, entries, block) = self.table.unwrap();
        let stride = bitmap_bytes(block) + block;
        let used = usize::try_from(self.size.div_ceil(block as u64)).unwrap();
        let starts =
            (0..used).map(|index| place(self.file, table + 4 * index, 4)).filter(|at| *at != 0xFFFF_FFFF);
        let mut ranges: Vec<(usize, usize)> = starts.map(|at| (at * 512, at * 512 + stride)).collect();
        ranges.extend([(0, 1536), (table, table + entries * 4)]);
        ranges.sort_unstable();
        match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            Some(pair) => Err(format!("{pair:?} overlap")),
            None if ranges.last().unwrap().1 > self.file.len() => Err("a block beyond the end".into()),
            None => Ok(()),
        }
    }

    /// The whole disk; `parent` is read where a differencing image has nothing.
    pub(crate) fn disk(&self, parent: &[u8]) -> Vec<u8> {
        let size = usize::try_from(self.size).unwrap();
        if self.disk_type == 2 {
            return self.file[..size].to_vec();
        }
        let mut disk = vec![0; size];
        for sector in 0..size / 512 {
            let into = &mut disk[sector * 512..][..512];
            match self.sector(sector) {
                Some(bytes) => into.copy_from_slice(bytes),
                None if self.disk_type == 4 => {
                    let there = parent.get(sector * 512..).unwrap_or_default();
                    let there = &there[..there.len().min(512)];
                    into[..there.len()].copy_from_slice(there);
                }
                None => {}
            }
        }
        disk
    }

    /// A sector that the image itself has.
    fn sector(&self, sector: usize) -> Option<&'a [u8]> {
        let (table, _, block) = self.table.unwrap();
        let (index, within) = (sector / (block / 512), sector % (block / 512));
        let entry = place(self.file, table + 4 * index, 4);
        if entry == 0xFFFF_FFFF {
            return None;
        }
        let bitmap = entry * 512;
        let bit = self.file[bitmap + within / 8] & (1 << (7 - within % 8));
        (bit != 0).then(|| &self.file[bitmap + bitmap_bytes(block) + within * 512..][..512])
    }

    /// Where each block's data begins that has a place.
    pub(crate) fn data_places(&self) -> Vec<usize> {
        let Some((table, entries, block)) = self.table else { return vec![] };
        let entries = (0..entries).map(|index| place(self.file, table + 4 * index, 4));
        entries.filter(|entry| *entry != 0xFFFF_FFFF).map(|entry| entry * 512 + bitmap_bytes(block)).collect()
    }
}

fn bitmap_bytes(block: usize) -> usize {
    (block / 512).div_ceil(8).div_ceil(512) * 512
}
