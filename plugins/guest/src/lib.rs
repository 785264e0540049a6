//! The guest's half of a plugin: makes a component of a [`Format`](stampede_plugin::Format). For `wasm32-unknown-unknown`.
//!
//! [`export_format!`] is all that a plugin writes. It gives the module the exports of its WIT world, an allocator, and a panic
//! handler that traps; `scripts/plugins` builds the module and wraps it into a component.
//!
//! The code that is generated from the WIT worlds passes pointers to the host: that is why this crate may hold `unsafe`. It has none of its own.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod format;
#[allow(missing_docs, unsafe_code, clippy::all, reason = "generated from the WIT world")]
#[rustfmt::skip]
pub mod format_world {
    wit_bindgen::generate!({
        path: "../wit/format/0.1",
        world: "format",
        pub_export_macro: true,
        export_macro_name: "export_format_world",
        default_bindings_module: "stampede_guest::format_world",
    });
}

use atomic_refcell::AtomicRefCell;

/// The component's one image or policy. A component has one thread, so it is never borrowed twice; were it, that would be a trap.
pub struct Instance<T>(AtomicRefCell<Option<T>>);

impl<T: Default> Instance<T> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicRefCell::new(None))
    }

    /// Does something with it; the first time it is made.
    fn with<R>(&self, ask: impl FnOnce(&mut T) -> R) -> R {
        ask(self.0.borrow_mut().get_or_insert_with(T::default))
    }
}

impl<T: Default> Default for Instance<T> {
    fn default() -> Self {
        Self::new()
    }
}

pub use format::FormatGuest;

/// What every guest module needs that has no standard library.
#[doc(hidden)]
#[macro_export]
macro_rules! guest_runtime {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::Allocator = $crate::Allocator;

        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            core::arch::wasm32::unreachable()
        }
    };
}

pub use dlmalloc::GlobalDlmalloc as Allocator;

/// Makes a component of a [`Format`](stampede_plugin::Format) that has a default: `export_format!(Raw);`, once, in a crate without a standard library.
#[macro_export]
macro_rules! export_format {
    ($format:ty) => {
        $crate::guest_runtime!();

        struct Component;

        impl $crate::FormatGuest for Component {
            type Format = $format;

            fn instance() -> &'static $crate::Instance<$format> {
                static INSTANCE: $crate::Instance<$format> = $crate::Instance::new();
                &INSTANCE
            }
        }

        $crate::format_world::export_format_world!(Component with_types_in $crate::format_world);
    };
}
