//! Counters of one shard. Each shard counts for itself; readers add up.

/// Declares the counters once: the struct, their names and their values come from this list.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a shard has counted since it started.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Counters {
            /// Each counter's name and value, in the order of declaration.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Passes through the shard's loop.
    turns,
    /// Completions reaped.
    completions,
    /// Connections accepted.
    accepted,
    /// Connections closed.
    closed,
    /// Connections dropped for breaking the protocol.
    violations,
    /// Connections dropped since a file was shortened while bytes of it were being sent.
    cut_off,
    /// Logins that were refused.
    logins_refused,
    /// Logins, or discovery sessions, that gave way to another's, since there was no room for more.
    logins_displaced,
    /// Logins that reached full-feature phase.
    logins,
    /// Chunks received.
    chunks_received,
    /// Bytes received.
    received_bytes,
    /// Vectored sends completed.
    sends,
    /// Bytes sent.
    sent_bytes,
    /// SCSI commands started.
    commands,
    /// SCSI commands ended with CHECK CONDITION.
    check_conditions,
    /// Commands handed to another shard.
    forwarded,
    /// Commands taken over from another shard.
    taken_over,
    /// Sessions that came from another shard.
    moved_here,
    /// Sessions that went to another shard.
    moved_away,
    /// Sessions that were to move and stayed.
    moves_refused,
    /// Bytes that were kept unparsed while their session was about to go.
    leftover_bytes,
    /// Clones that came with their session from another shard.
    clones_moved,
    /// Times that receiving stopped because no buffer was free.
    stalls,
    /// Task-management functions executed.
    task_management,
    /// Disk reads issued.
    disk_reads,
    /// Disk writes issued.
    disk_writes,
    /// Writes whose data was left in the receive buffer until it was written.
    writes_borrowed,
    /// Of these, those that could not run at once: their data was copied first.
    writes_kept,
    /// Disk flushes issued.
    disk_flushes,
    /// Blocks of goldens that were found in the cache.
    cache_hits,
    /// Blocks of goldens that were asked for at their home.
    cache_misses,
    /// Blocks of goldens read into the cache.
    cache_reads,
    /// Of these, read ahead of whoever wants them.
    cache_reads_ahead,
    /// Blocks of goldens that a recorded clone used for the first time.
    blocks_recorded,
    /// Slots of overlays that went from memory to scratch space.
    slots_spilled,
    /// Slots copied to scratch space for nothing, since they were written or freed meanwhile.
    slots_spilled_in_vain,
    /// Slots read from scratch space, to be sent or to be written in part.
    slots_read_back,
    /// Writes to scratch space that failed; what they were to spill stayed in memory.
    spill_failures,
    /// Times that the shard polled before it slept.
    busy_polls,
    /// Polls that found something, so that the shard need not sleep.
    busy_poll_hits,
    /// Nanoseconds spent polling.
    busy_poll_ns,
}
