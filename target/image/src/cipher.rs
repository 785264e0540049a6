//! Encryption at rest: XTS-AES-256 (IEEE 1619) of an image whose blocks are stored in place.
//!
//! A data unit is a logical block, and its tweak is the block's address as a little-endian number of 128 bits. A block of
//! zeros in the file was never written, or was given back, and is read as zeros: no plaintext that anybody could choose
//! has such a ciphertext. So an empty image is an empty disk under any key, and holes go on to be holes.

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// Bytes of a key: one half for the data, one for the tweaks.
pub const KEY: usize = 64;
/// Bytes that AES works on at once: XTS goes through a data unit in such strides, so that the processor has independent
/// blocks to overlap. Logical blocks are multiples of it.
const STRIDE: usize = 512;
/// Bytes of an AES block.
const BLOCK: usize = 16;

/// A data key. It is wiped when it is dropped, and not shown.
pub struct DataKey(Zeroizing<[u8; KEY]>);

impl DataKey {
    /// From random bytes; `None` if both halves are the same, which XTS does not allow.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; KEY]>) -> Option<Self> {
        let (data, tweak) = bytes.split_at(KEY / 2);
        (data != tweak).then_some(Self(bytes))
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// What encrypts and decrypts an image.
pub struct Cipher {
    data: Aes256,
    tweak: Aes256,
    block_size: usize,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// For logical blocks of 512 or 4,096 bytes.
    #[must_use]
    pub fn new(key: &DataKey, block_size: u32) -> Self {
        let (data, tweak) = key.0.split_at(KEY / 2);
        let aes = |half: &[u8]| {
            let mut key = Zeroizing::new([0; KEY / 2]);
            key.copy_from_slice(half);
            Aes256::new(<&Array<u8, _>>::from(&*key))
        };
        Self { data: aes(data), tweak: aes(tweak), block_size: (block_size as usize).max(STRIDE) }
    }

    /// Bytes of a logical block.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Encrypts whole logical blocks that go to this byte offset of the image, a multiple of a block.
    pub fn seal(&self, offset: u64, bytes: &mut [u8]) {
        self.each_block(offset, bytes, |_| false, |blocks| self.data.encrypt_blocks(blocks));
    }

    /// Decrypts whole logical blocks that come from this byte offset of the image, a multiple of a block.
    pub fn open(&self, offset: u64, bytes: &mut [u8]) {
        self.each_block(offset, bytes, is_zero, |blocks| self.data.decrypt_blocks(blocks));
    }

    fn each_block(
        &self,
        offset: u64,
        bytes: &mut [u8],
        leaves: impl Fn(&[u8]) -> bool,
        aes: impl Fn(&mut [AesBlock]),
    ) {
        let first = offset / self.block_size as u64;
        for (block, lba) in bytes.chunks_exact_mut(self.block_size).zip(first..) {
            if leaves(block) {
                continue;
            }
            let mut tweak = Array(u128::from(lba).to_le_bytes());
            self.tweak.encrypt_block(&mut tweak);
            let mut tweak = u128::from_le_bytes(tweak.0);
            for stride in block.chunks_exact_mut(STRIDE) {
                let (blocks, _) = AesBlock::slice_as_chunks_mut(stride);
                let mut tweaks = [0; STRIDE / BLOCK];
                for slot in &mut tweaks {
                    *slot = tweak;
                    tweak = doubled(tweak);
                }
                add(blocks, &tweaks);
                aes(blocks);
                add(blocks, &tweaks);
            }
        }
    }
}

type AesBlock = Array<u8, aes::cipher::consts::U16>;

fn add(blocks: &mut [AesBlock], tweaks: &[u128]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        block.0 = (u128::from_ne_bytes(block.0) ^ tweak.to_le()).to_ne_bytes();
    }
}

/// Twice this element of GF(2^128) (IEEE 1619 5.2).
fn doubled(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

fn is_zero(block: &[u8]) -> bool {
    let (words, _) = block.as_chunks::<BLOCK>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xts_mode::{Xts128, get_tweak_default};

    fn bytes_of(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    fn cipher(key: &[u8], block_size: u32) -> Cipher {
        let mut bytes = Zeroizing::new([0; KEY]);
        bytes.copy_from_slice(key);
        Cipher::new(&DataKey::new(bytes).unwrap(), block_size)
    }

    /// IEEE 1619 annex B, vectors 10 to 14: the first one whole, of the others the beginning.
    #[test]
    fn known_answers() {
        let key = bytes_of(
            "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592",
        );
        let whole = "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed43851ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151";
        let cipher = cipher(&key, 512);
        let plain: Vec<u8> = (0..512).map(|at| at as u8).collect();
        for (lba, sealed) in [
            (0xFF, whole),
            (0xFFFF, "77a31251618a15e6b92d1d66dffe7b50"),
            (0xFF_FFFF, "e387aaa58ba483afa7e8eb469778317e"),
            (0xFFFF_FFFF, "bf53d2dade78e822a4d949a9bc6766b0"),
            (0xFF_FFFF_FFFF, "64497e5a831e4a932c09be3e5393376d"),
        ] {
            let mut bytes = plain.clone();
            cipher.seal(lba * 512, &mut bytes);
            let sealed = bytes_of(sealed);
            assert_eq!(bytes[..sealed.len()], sealed);
            cipher.open(lba * 512, &mut bytes);
            assert_eq!(bytes, plain);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_others_make_of_it(
            key in proptest::collection::vec(any::<u8>(), KEY),
            big: bool, lba in 0..u64::MAX >> 12, blocks in 1usize..5, seed: u64,
        ) {
            let block_size = if big { 4096 } else { 512 };
            let mut random = fastrand::Rng::with_seed(seed);
            let mut plain = vec![0; blocks * block_size as usize];
            random.fill(&mut plain);
            let mut sealed = plain.clone();
            cipher(&key, block_size).seal(lba * u64::from(block_size), &mut sealed);
            let half = |half: &[u8]| Aes256::new(&Array::try_from(half).unwrap());
            let other = Xts128::new(half(&key[..32]), half(&key[32..]));
            let mut others = plain.clone();
            other.encrypt_area(&mut others, block_size as usize, lba.into(), get_tweak_default);
            prop_assert_eq!(&sealed, &others);
            cipher(&key, block_size).open(lba * u64::from(block_size), &mut sealed);
            prop_assert_eq!(sealed, plain);
        }
    }

    #[test]
    fn holes_are_zeros_and_zeros_are_not_holes() {
        let cipher = cipher(&[[1; 32], [2; 32]].concat(), 512);
        let mut bytes = vec![0; 1536];
        bytes[512..1024].fill(7);
        let plain = bytes.clone();
        cipher.seal(0, &mut bytes);
        assert!(bytes.chunks(512).all(|block| !is_zero(block)));
        assert_ne!(bytes[..512], bytes[1024..], "an address has no part in it");
        bytes[1024..].fill(0);
        cipher.open(0, &mut bytes);
        assert_eq!(bytes, plain);
    }

    #[test]
    fn keys_are_not_shown_and_have_two_halves() {
        assert!(DataKey::new(Zeroizing::new([9; KEY])).is_none());
        let mut bytes = [0xAB; KEY];
        bytes[0] = 0;
        let key = DataKey::new(Zeroizing::new(bytes)).unwrap();
        assert_eq!(format!("{key:?} {:?}", Cipher::new(&key, 512)), "DataKey Cipher");
    }
}
