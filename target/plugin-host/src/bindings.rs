//! The host's side of the WIT worlds, and what an instance carries with it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use scoped_tls_hkt::scoped_thread_local;
use stampede_plugin::{Pages, Span, convert::Convert as _};
use wasmtime::{StoreContextMut, StoreLimits, UpdateDeadline};

#[allow(missing_docs, unreachable_pub, unsafe_code, clippy::all, reason = "generated from the WIT world")]
pub(crate) mod format {
    wasmtime::component::bindgen!({ path: "../../plugins/wit/format/0.1", world: "format" });
}

use format::stampede::format::{pages, types as wit};

stampede_plugin::convert_format!(wit);

scoped_thread_local!(
    /// The pages of the call that this thread is in.
    static mut PAGES: for<'a> &'a mut (dyn Pages + 'a)
);

/// Does something while a guest may read `pages`.
pub(crate) fn with_pages<T>(pages: &mut dyn Pages, ask: impl FnOnce() -> T) -> T {
    PAGES.set(pages, ask)
}

/// What an instance carries with it.
pub(crate) struct State {
    pub(crate) limits: StoreLimits,
    /// How much processor time the call that runs may take.
    pub(crate) budget: Duration,
    /// The thread's processor time when the first tick found the call.
    began: Option<Duration>,
    /// How many ticks found the call.
    pub(crate) epochs: u64,
}

impl State {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self { limits, budget: Duration::ZERO, began: None, epochs: 0 }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, budget: Duration) {
        (self.budget, self.began, self.epochs) = (budget, None, 0);
    }
}

/// A tick found a call running: it goes on, unless it had its time. Processor time counts, since a thread that does not run is slow by no fault of
/// the plugin's.
pub(crate) fn tick(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let now = thread_time();
    let state = store.data_mut();
    state.epochs += 1;
    let began = *state.began.get_or_insert(now);
    let over = now.saturating_sub(began) >= state.budget;
    Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
}

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl pages::Host for State {
    fn read(&mut self, span: wit::Span) -> Option<Vec<u8>> {
        let span: Span = span.convert();
        if span.length > Span::LENGTH_MAX || !PAGES.is_set() {
            return None;
        }
        PAGES.with(|pages| pages.read(span))
    }

    fn file_length(&mut self, file: wit::FileId) -> u64 {
        if !PAGES.is_set() {
            return 0;
        }
        PAGES.with(|pages| pages.file_length(file.convert()))
    }
}

impl wit::Host for State {}
