//! Mappings of files that somebody may shorten: touching what is gone raises SIGBUS.
//!
//! The handler here puts a page of zeros into the gap, so that the copy that ran into it ends, and marks the mapping:
//! what was copied from one that is marked must not be used.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Mappings of the process that are guarded at once.
const GUARDS_MAX: usize = 256;

/// Bytes of a page.
const PAGE: usize = 4096;

/// One mapping, as the signal handler knows it.
struct Guard {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
    /// The ring that mapped it.
    ring: AtomicU32,
}

static GUARDS: [Guard; GUARDS_MAX] = [const {
    Guard {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        damaged: AtomicBool::new(false),
        ring: AtomicU32::new(0),
    }
}; GUARDS_MAX];

/// A place among the guarded mappings, which is given back when this is dropped: before the memory is unmapped.
pub(crate) struct Guarded(u32);

impl Guarded {
    /// Guards `len` bytes from address `start` on, which a ring has mapped; `None` when all places are taken or the
    /// kernel refuses the handler.
    pub(crate) fn new(ring: u32, start: usize, len: usize) -> Option<Self> {
        if !handler_is_installed() {
            return None;
        }
        let index = GUARDS.iter().position(|guard| {
            guard.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })?;
        let guard = &GUARDS[index];
        guard.damaged.store(false, Ordering::Relaxed);
        guard.ring.store(ring, Ordering::Relaxed);
        guard.start.store(start, Ordering::Relaxed);
        guard.end.store(start + len, Ordering::Release);
        Some(Self(index as u32))
    }

    /// What [`is_damaged`] and [`ring_of`] know it by.
    pub(crate) fn number(&self) -> u32 {
        self.0
    }

    /// Whether the mapping was found to have a gap.
    pub(crate) fn is_damaged(&self) -> bool {
        is_damaged(self.0)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let guard = &GUARDS[self.0 as usize];
        guard.end.store(0, Ordering::Relaxed);
        guard.start.store(0, Ordering::Relaxed);
        guard.taken.store(false, Ordering::Release);
    }
}

/// Whether the mapping of this number was found to have a gap.
pub(crate) fn is_damaged(number: u32) -> bool {
    GUARDS.get(number as usize).is_none_or(|guard| guard.damaged.load(Ordering::Relaxed))
}

/// The ring that mapped it.
pub(crate) fn ring_of(number: u32) -> Option<u32> {
    GUARDS.get(number as usize).map(|guard| guard.ring.load(Ordering::Relaxed))
}

/// What handled SIGBUS before us.
static PREVIOUS: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Installs the handler, once in the process; false when the kernel refuses.
#[allow(unsafe_code, reason = "signal handlers are installed by libc only")]
fn handler_is_installed() -> bool {
    let installed = PREVIOUS.get_or_init(|| {
        // SAFETY: both structures are plain data for which zero is valid; the handler only does what a signal handler
        // may: atomics, mmap, sigaction.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut previous: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            (libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) == 0).then_some(previous)
        }
    });
    installed.is_some()
}

/// Closes the gap that a mapping of ours was found to have; any other fault goes to whoever handled it before.
#[allow(unsafe_code, reason = "a signal handler gets bare pointers")]
extern "C" fn on_bus_error(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for guard in &GUARDS {
        let end = guard.end.load(Ordering::Acquire);
        let start = guard.start.load(Ordering::Relaxed);
        if (start..end).contains(&address) {
            guard.damaged.store(true, Ordering::Relaxed);
            let page = (address & !(PAGE - 1)) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: it replaces one page of a mapping that is ours and that nothing refers to.
            let mapped = unsafe { libc::mmap(page, PAGE, access, flags, -1, 0) };
            if mapped != libc::MAP_FAILED {
                return;
            }
        }
    }
    let previous = PREVIOUS.get().and_then(Option::as_ref);
    match previous.map(|previous| (previous.sa_sigaction, previous.sa_flags)) {
        Some((handler, flags)) if handler > libc::SIG_IGN && flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: that is what the previous handler was installed as.
            unsafe {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        // SAFETY: with the default action the fault, which comes again, ends the process.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}
