//! How a header field is stored in its big-endian place and how a caller sees it.

use crate::{Isid, Lun, Sn, Tsih};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    big_endian::{U16, U32},
};

/// A stored field and the value it stands for.
pub(crate) trait Field: Copy {
    type Value;
    fn load(self) -> Self::Value;
    fn of(value: Self::Value) -> Self;
}

macro_rules! field {
    ($Stored:ty, $Value:ty, $stored:ident => $load:expr, $value:ident => $of:expr) => {
        impl Field for $Stored {
            type Value = $Value;
            #[inline]
            fn load(self) -> $Value {
                let $stored = self;
                $load
            }
            #[inline]
            fn of($value: $Value) -> Self {
                $of
            }
        }
    };
}

/// A sequence number in its place.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SnField(U32);

/// A TSIH in its place.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct TsihField(U16);

field!(u8, u8, s => s, v => v);
field!(U16, u16, s => s.get(), v => Self::new(v));
field!(U32, u32, s => s.get(), v => Self::new(v));
field!(SnField, Sn, s => Sn(s.0.get()), v => Self(U32::new(v.0)));
field!(TsihField, Tsih, s => Tsih(s.0.get()), v => Self(U16::new(v.0)));
field!(Isid, Isid, s => s, v => v);
field!(Lun, Lun, s => s, v => v);
field!([u8; 16], [u8; 16], s => s, v => v);

/// Inherent getters and setters for fields of a layout: `/// doc` then `field: Value, setter;`.
/// A setter is only given where any value keeps the PDU legal
macro_rules! accessors {
    ($($(#[$doc:meta])+ $field:ident : $Value:ty $(, $setter:ident)?;)*) => {
        $(
            $(#[$doc])+
            #[must_use]
            #[inline]
            pub fn $field(&self) -> $Value {
                $crate::field::Field::load(self.$field)
            }
            $(
                #[doc = concat!("Sets what [`Self::", stringify!($field), "`] returns.")]
                #[inline]
                pub fn $setter(&mut self, value: $Value) {
                    self.$field = $crate::field::Field::of(value);
                }
            )?
        )*
    };
}
pub(crate) use accessors;
