//! The engine that plugins run in.

use std::{path::Path, sync::Arc};

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimitsBuilder,
    component::{HasSelf, Linker},
};

use crate::{
    Limits, Plugin, PluginError,
    bindings::{State, format, tick},
    cache::Cache,
    ticker::Ticker,
};

/// What a component that wraps one module has: the module, and two small ones that tie it to its imports.
const CORE_INSTANCES_EACH: u32 = 4;
/// Tables of these.
const TABLES_EACH: u32 = 4;
/// Entries of a table: indirect calls of a plugin.
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// How large what the engine keeps of an instance may be, in bytes.
const INSTANCE_BYTES_MAX: usize = 64 << 10;
/// The stack of a guest, in bytes.
const STACK_BYTES_MAX: usize = 512 << 10;
/// Inaccessible memory behind that of an instance, in bytes.
const GUARD_BYTES: u64 = 64 << 10;

/// Where plugins are compiled and run.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    ticker: Ticker,
    limits: Limits,
    cache: Option<Cache>,
}

impl Host {
    /// An engine with room for what `limits` say. Compiled code is kept in the folder `cache`, if there is one; a cache that cannot be used is
    /// reported in the log and done without.
    ///
    /// # Errors
    /// When the limits make no sense or there is no address space for them.
    pub fn new(limits: Limits, cache: Option<&Path>) -> Result<Self, PluginError> {
        let cannot = |error: wasmtime::Error| PluginError::Engine { why: format!("{error:#}") };
        let engine = Engine::new(&config(&limits)).map_err(cannot)?;
        let mut linker = Linker::new(&engine);
        format::Format::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)
            .map_err(cannot)?;
        let ticker = Ticker::new(&engine, limits.tick)
            .map_err(|error| PluginError::Engine { why: error.to_string() })?;
        let cache = cache.and_then(|folder| match Cache::new(folder, &engine) {
            Ok(cache) => Some(cache),
            Err(why) => {
                tracing::warn!("plugins are compiled at each start: {}: {why}", folder.display());
                None
            }
        });
        Ok(Self(Arc::new(Inner { engine, linker, ticker, limits, cache })))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Compiles a plugin, or takes it from the cache, and asks it what it is. `file` is what messages call it.
    ///
    /// # Errors
    /// When it is no plugin that we can run; each error says what it is instead.
    pub fn load(&self, bytes: &[u8], file: &str) -> Result<Arc<Plugin>, PluginError> {
        Plugin::load(self, bytes, file)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.0.linker
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.0.ticker
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    /// The store of a new instance.
    pub(crate) fn store(&self) -> Store<State> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.0.limits.memory_bytes_max)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(CORE_INSTANCES_EACH as usize)
            .tables(TABLES_EACH as usize)
            .memories(1)
            // Else a guest would see that there is no memory, and say so by a trap that has lost the reason.
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(&self.0.engine, State::new(limits));
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(tick);
        store.set_hostcall_fuel(self.0.limits.answer_bytes_max);
        store
    }
}

/// The engine's configuration: a pool of equal slots, as many as instances may be.
fn config(limits: &Limits) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances_max)
        .total_core_instances(limits.instances_max.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(limits.instances_max)
        .total_tables(limits.instances_max.saturating_mul(TABLES_EACH))
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_EACH)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(limits.memory_bytes_max)
        // An image that is closed leaves no memory behind.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .max_unused_warm_slots(0);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .memory_reservation(limits.memory_bytes_max as u64)
        .memory_guard_size(GUARD_BYTES)
        .memory_init_cow(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
