//! An image in a sandbox: a component's instance as a [`Format`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use stampede_plugin::{
    Change, Confidence, Description, Extent, Fail, FailKind, Format, Halt, Job, JobStep, OpenRequest, Opened,
    Outcome, Pages, Plan, Range, Token, View, convert::Convert,
};
use wasmtime::{Store, Trap};

use crate::{
    Call, Counters, Plugin,
    bindings::{State, format, with_pages},
};

type Exports = format::exports::stampede::format::image::Guest;

/// One image's instance of a plugin.
///
/// It takes part in no rules: [`Checked`](stampede_plugin::Checked) judges what it answers. It sees to it that a call ends, with an answer or with a
/// failure of the kind [`FailKind::Broken`]: after that the instance is gone, with its memory, and each call gives the same failure.
pub struct Component {
    plugin: Arc<Plugin>,
    image: String,
    counters: Arc<Counters>,
    guest: Mutex<Guest>,
}

enum Guest {
    Alive(Box<(Store<State>, format::Format)>),
    Dead(Fail),
}

impl Component {
    pub(crate) fn new(
        plugin: Arc<Plugin>,
        image: String,
        store: Store<State>,
        exports: format::Format,
    ) -> Self {
        plugin.counters.made();
        let counters = Arc::new(Counters::default());
        Self { plugin, image, counters, guest: Mutex::new(Guest::Alive(Box::new((store, exports)))) }
    }

    /// What this image's instance did.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The plugin.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Makes a call. A guest that traps or overruns is dropped.
    fn call<T>(
        &self,
        call: Call,
        pages: Option<&mut dyn Pages>,
        ask: impl FnOnce(&Exports, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fail> {
        // Nothing between lock and unlock panics by itself, and a guest that was cut off has failed anyway.
        let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, exports) = match &mut *guest {
            Guest::Alive(alive) => &mut **alive,
            Guest::Dead(fail) => return Err(fail.clone()),
        };
        let limits = self.plugin.host.limits();
        store.data_mut().begin(if call.quick() { limits.quick_call_max } else { limits.slow_call_max });
        store.set_epoch_deadline(1);
        let began = Instant::now();
        let ticking = self.plugin.host.ticker().call();
        let exports = exports.stampede_format_image();
        let answer = match pages {
            Some(pages) => with_pages(pages, || ask(exports, store)),
            None => ask(exports, store),
        };
        drop(ticking);
        let (time, epochs) = (began.elapsed(), store.data().epochs);
        self.counters.called(call, time, epochs);
        self.plugin.counters.called(call, time, epochs);
        let budget = store.data().budget;
        answer.map_err(|error| {
            let fail = self.died(call, &error, budget);
            *guest = Guest::Dead(fail.clone());
            fail
        })
    }

    /// What is said of a guest that trapped.
    fn died(&self, call: Call, error: &wasmtime::Error, budget: Duration) -> Fail {
        self.counters.trapped();
        self.plugin.counters.trapped();
        let why = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => {
                format!("it took more than {budget:?} of processor time")
            }
            Some(Trap::UnreachableCodeReached) => String::from("it trapped (gave up: a panic, or no memory)"),
            Some(trap) => format!("it trapped ({trap})"),
            None => format!("it failed ({})", error.root_cause()),
        };
        let (plugin, image) = (&self.plugin.name, &self.image);
        let text = format!("plugin {plugin}, image {image}: {}: {why}", call.name());
        tracing::error!(plugin, image, call = call.name(), "a plugin failed: {why}");
        Fail::new(FailKind::Broken, text)
    }

    /// A call that may need pages.
    fn ask<T, W>(
        &self,
        call: Call,
        pages: &mut dyn Pages,
        ask: impl FnOnce(
            &Exports,
            &mut Store<State>,
        ) -> wasmtime::Result<Result<W, format::stampede::format::types::Halt>>,
    ) -> Outcome<T>
    where
        W: Convert<T>,
    {
        match self.call(call, Some(pages), ask)? {
            Ok(answer) => Ok(answer.convert()),
            Err(halt) => {
                let halt: Halt = halt.convert();
                if matches!(halt, Halt::Need(_)) {
                    self.counters.needed();
                    self.plugin.counters.needed();
                }
                Err(halt)
            }
        }
    }

    /// What the plugin says of itself, asked anew.
    pub(crate) fn described(&self) -> Result<Description, Fail> {
        self.call(Call::Describe, None, |exports, store| exports.call_describe(store)).map(Convert::convert)
    }
}

impl Format for Component {
    fn describe(&self) -> Description {
        self.plugin.description.clone()
    }

    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence {
        self.call(Call::Probe, None, |exports, store| exports.call_probe(store, head, tail, length))
            .map_or(Confidence::No, Convert::convert)
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        let request = request.clone().convert();
        self.ask(Call::Open, pages, |exports, store| exports.call_open(store, request))
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        self.ask(Call::Recover, pages, |exports, store| exports.call_recover(store))
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        let (view, range) = (view.convert(), range.convert());
        self.ask(Call::Resolve, pages, |exports, store| exports.call_resolve(store, view, range, extents_max))
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        let ranges: Vec<_> = ranges.to_vec().convert();
        self.ask(Call::PlanWrite, pages, |exports, store| {
            exports.call_plan_write(store, &ranges, change.convert())
        })
    }

    fn done(&mut self, token: Token) {
        // A failure is kept, and the next call gives it.
        let _ = self.call(Call::Done, None, |exports, store| exports.call_done(store, token));
    }

    fn released(&mut self, token: Token) {
        // As above.
        let _ = self.call(Call::Released, None, |exports, store| exports.call_released(store, token));
    }

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        let job = job.convert();
        self.call(Call::JobStart, None, |exports, store| exports.call_job_start(store, &job))?
            .map_err(Convert::convert)
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        self.ask(Call::JobStep, pages, |exports, store| exports.call_job_step(store))
    }
}
