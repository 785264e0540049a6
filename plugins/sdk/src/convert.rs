//! From the types of the WIT worlds to ours, and back: one list for both sides of the sandbox. Whoever has generated bindings (the guest
//! half of this crate, and the host) names their module once, and gets both directions of every type.
//!
//! Generated types have no flattened variants, so `Place::Data { .. }` is `Place::Data(PlaceData { .. })` there; else the names are the same.

use alloc::{string::String, vec::Vec};

use crate::FileId;

/// Turns a value into its twin. (As `Into`, but for lists, options and pairs too.)
pub trait Convert<T> {
    /// The twin.
    fn convert(self) -> T;
}

impl<T, U: Convert<T>> Convert<Vec<T>> for Vec<U> {
    fn convert(self) -> Vec<T> {
        self.into_iter().map(Convert::convert).collect()
    }
}

impl<T, U: Convert<T>> Convert<Option<T>> for Option<U> {
    fn convert(self) -> Option<T> {
        self.map(Convert::convert)
    }
}

impl<T, E, U: Convert<T>, F: Convert<E>> Convert<Result<T, E>> for Result<U, F> {
    fn convert(self) -> Result<T, E> {
        self.map(Convert::convert).map_err(Convert::convert)
    }
}

impl<A, B, C: Convert<A>, D: Convert<B>> Convert<(A, B)> for (C, D) {
    fn convert(self) -> (A, B) {
        (self.0.convert(), self.1.convert())
    }
}

impl Convert<FileId> for u16 {
    fn convert(self) -> FileId {
        FileId(self)
    }
}

impl Convert<u16> for FileId {
    fn convert(self) -> u16 {
        self.0
    }
}

macro_rules! same {
    ($($type:ty)*) => { $(impl Convert<$type> for $type {
        fn convert(self) -> $type {
            self
        }
    })* };
}
same! { () bool u8 u16 u32 u64 String }

/// Both directions for records: theirs = ours { fields }.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_records {
    ($($theirs:path = $ours:path { $($field:ident),* })*) => { $(
        impl $crate::convert::Convert<$ours> for $theirs {
            fn convert(self) -> $ours {
                $ours { $($field: $crate::convert::Convert::convert(self.$field)),* }
            }
        }
        impl $crate::convert::Convert<$theirs> for $ours {
            fn convert(self) -> $theirs {
                $theirs { $($field: $crate::convert::Convert::convert(self.$field)),* }
            }
        }
    )* };
}

/// Both directions for variants: cases without a value, cases with one, and cases whose record is flattened on our side.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_variants {
    ($($theirs:path = $ours:path {
        [$($unit:ident),*] [$($value:ident),*] [$($case:ident($record:path) { $($field:ident),* })*]
    })*) => { $(
        impl $crate::convert::Convert<$ours> for $theirs {
            fn convert(self) -> $ours {
                use $ours as O;
                use $theirs as T;
                match self {
                    $(T::$unit => O::$unit,)*
                    $(T::$value(value) => O::$value($crate::convert::Convert::convert(value)),)*
                    $(T::$case($record { $($field),* }) => {
                        O::$case { $($field: $crate::convert::Convert::convert($field)),* }
                    })*
                }
            }
        }
        impl $crate::convert::Convert<$theirs> for $ours {
            fn convert(self) -> $theirs {
                use $ours as O;
                use $theirs as T;
                match self {
                    $(O::$unit => T::$unit,)*
                    $(O::$value(value) => T::$value($crate::convert::Convert::convert(value)),)*
                    $(O::$case { $($field),* } => {
                        // A path is no beginning of a struct literal inside an argument.
                        use $record as R;
                        T::$case(R { $($field: $crate::convert::Convert::convert($field)),* })
                    })*
                }
            }
        }
    )* };
}

/// The conversions of the world `format`; the argument is a module with the generated `types`, named by one identifier.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_format {
    ($wit:ident) => {
        $crate::convert_records! {
            $wit::Span = $crate::Span { file, offset, length }
            $wit::GuestRange = $crate::Range { offset, length }
            $wit::Fail = $crate::Fail { kind, text, at }
            $wit::CreateOption = $crate::CreateOption { name, help, default }
            $wit::Description = $crate::Description {
                name, version, extensions, writable, parents, snapshots, options
            }
            $wit::OpenRequest = $crate::OpenRequest { mode, files }
            $wit::FileHint = $crate::FileHint { name, length_min }
            $wit::ParentHint = $crate::ParentHint { kind, name }
            $wit::ParentRef = $crate::ParentRef { hints, format, identity, virtual_size }
            $wit::MetadataRange = $crate::MetadataRange { file, offset, length }
            $wit::Opened = $crate::Opened {
                virtual_size, block_size, allocation_unit, unmap_unit, files, parent, identity, metadata, needs_recovery, warnings
            }
            $wit::Bitmap = $crate::Bitmap { file, offset, first_bit, order, unit }
            $wit::Extent = $crate::Extent { range, place }
            $wit::Patch = $crate::Patch { id, file, offset, bytes, after, after_data, lazy }
            $wit::FreeSpace = $crate::Free { file, offset, length, after, punch }
            $wit::Plan = $crate::Plan { token, now, map, meta, free, protect }
            $wit::Created = $crate::Created { virtual_size, options, parent, identity }
            $wit::SnapshotInfo = $crate::SnapshotInfo { id, name, time, virtual_size }
            $wit::Report = $crate::Report {
                errors, error_count, leaked_bytes, repaired_errors, repaired_bytes, allocated_bytes, snapshots, details
            }
        }
        $crate::convert_variants! {
            $wit::FailKind = $crate::FailKind { [NotThisFormat, Unsupported, Corrupt, Invalid, NoSpace, ReadOnly, Broken] [] [] }
            $wit::Halt = $crate::Halt { [] [Need, Fail] [] }
            $wit::Confidence = $crate::Confidence { [No, Maybe, Sure] [] [] }
            $wit::Mode = $crate::Mode { [ReadOnly, ReadWrite] [] [] }
            $wit::View = $crate::View { [Active] [Snapshot] [] }
            $wit::Codec = $crate::Codec { [Deflate, Zstd] [] [] }
            $wit::BitOrder = $crate::BitOrder { [MsbFirst, LsbFirst] [] [] }
            $wit::Absent = $crate::Absent { [Parent, Zero] [] [] }
            $wit::Change = $crate::Change { [Data, Zero, Unmap] [] [] }
            $wit::Repair = $crate::Repair { [No, Leaks, All] [] [] }
            $wit::Place = $crate::Place { [Zero, Parent] [] [
                Data($wit::PlaceData) { file, offset, in_place }
                Packed($wit::PlacePacked) { codec, file, offset, length, unpacked, skip }
                Sparse($wit::PlaceSparse) { file, offset, bitmap, absent }
            ] }
            $wit::Step = $crate::Step { [] [] [
                SetLength($wit::StepSetLength) { file, length }
                Copy($wit::StepMove) { guest, length, file, offset }
                Put($wit::StepMove) { guest, length, file, offset }
                Fill($wit::StepFill) { file, offset, length }
            ] }
            $wit::Job = $crate::Job { [SnapshotList, Close] [Create, Check, Relink] [
                Resize($wit::Resize) { virtual_size, shrink }
                SnapshotCreate($wit::SnapshotNew) { name, time }
                SnapshotApply($wit::SnapshotName) { name }
                SnapshotDelete($wit::SnapshotName) { name }
            ] }
            $wit::JobAnswer = $crate::JobStep { [] [Plan, Done] [Progress($wit::Progress) { done, total }] }
        }
        impl $crate::convert::Convert<$crate::Identity> for $wit::Identity {
            fn convert(self) -> $crate::Identity {
                let id = (u128::from(self.id_high) << 64 | u128::from(self.id_low)).to_be_bytes();
                $crate::Identity { id, time: self.time }
            }
        }
        impl $crate::convert::Convert<$wit::Identity> for $crate::Identity {
            fn convert(self) -> $wit::Identity {
                let [a, b, c, d, e, f, g, h, low @ ..] = self.id;
                let id_high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                $wit::Identity { id_high, id_low: u64::from_be_bytes(low), time: self.time }
            }
        }
    };
}
