//! Compressed parts of images.

use std::io::{Error, Read};

use stampede_plugin::Codec;

/// The most bytes that a compressed part may give: the largest cluster that any format has.
const UNPACKED_MAX: u32 = 32 << 20;

/// Takes `packed` apart, which must give `unpacked` bytes; what follows the end of the stream is ignored. Memory is bounded by `unpacked`, whatever
/// the stream says.
///
/// # Errors
/// When the stream is not right or gives fewer bytes, in words.
pub fn unpack(codec: Codec, packed: &[u8], unpacked: u32) -> Result<Vec<u8>, String> {
    if unpacked > UNPACKED_MAX {
        return Err(format!("it is to give {unpacked} bytes, more than any format has in one part"));
    }
    let mut bytes = vec![0; unpacked as usize];
    let read = match codec {
        Codec::Deflate => flate2::read::DeflateDecoder::new(packed).read_exact(&mut bytes),
        Codec::Zstd => zstd_decoder(packed).and_then(|mut decoder| decoder.read_exact(&mut bytes)),
    };
    read.map_err(|error: Error| format!("it does not give {unpacked} bytes: {error}"))?;
    Ok(bytes)
}

fn zstd_decoder(packed: &[u8]) -> Result<impl Read, Error> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
    // The window of a frame is memory; 2^25 bytes are the largest cluster.
    decoder.window_log_max(25)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_codecs_give_what_was_packed_and_ignore_what_follows() {
        let plain: Vec<u8> = (0..65536_u32).map(|at| (at / 100) as u8).collect();
        for (codec, mut packed) in
            [(Codec::Deflate, deflated(&plain)), (Codec::Zstd, zstd::encode_all(&plain[..], 3).unwrap())]
        {
            packed.extend([0xFF; 300]);
            assert!(unpack(codec, &packed, 65536).unwrap() == plain);
            assert!(unpack(codec, &packed, 4096).unwrap() == plain[..4096], "no more than asked for");
        }
    }

    #[test]
    fn what_is_cut_off_bad_or_too_long_is_refused() {
        let plain = vec![7; 10_000];
        let packed =
            [(Codec::Deflate, deflated(&plain)), (Codec::Zstd, zstd::encode_all(&plain[..], 3).unwrap())];
        for (codec, packed) in packed {
            assert!(unpack(codec, &packed[..packed.len() / 2], 10_000).is_err());
            assert!(unpack(codec, &packed, 10_001).is_err());
            assert!(unpack(codec, &[0xFF; 40], 512).is_err());
            assert!(unpack(codec, &packed, u32::MAX).is_err());
        }
    }
}
