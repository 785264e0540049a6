//! An sk_reuseport program: it gives each connection to the listener of the shard on whose CPU its SYN was processed, and
//! where that CPU has no shard, to one by a hash. Nothing has to be kept in step with it: it asks where the packet is, so
//! it agrees with whatever brought it there (RSS, RFS, interrupt affinity, cpumap).

#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macro that exports the program does not pass its documentation on")]
// Maps are reached through pointers that the kernel's verifier has checked; there is no safe way to add to a count.
#![allow(unsafe_code, reason = "the counts are in a map's memory, which is reached by a raw pointer")]

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::{map, sk_reuseport};
use aya_ebpf::maps::{Array, PerCpuArray, ReusePortSockArray};
use aya_ebpf::programs::SkReuseportContext;
use stampede_ebpf_common::reuseport::{Choice, ENTRIES, choose};

#[map]
static LISTENERS: ReusePortSockArray = ReusePortSockArray::with_max_entries(ENTRIES, 0);
#[map]
static SHARD_OF_CPU: Array<u32> = Array::with_max_entries(ENTRIES, 0);
#[map]
static SHARDS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static CHOSEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(Choice::COUNT, 0);

/// Never refuses: without a selected listener SK_PASS leaves the choice to the kernel's own hash.
#[sk_reuseport]
pub fn stampede_by_cpu(context: SkReuseportContext) -> u32 {
    // SAFETY: a helper without arguments, which every program may call.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let shards = SHARDS.get(0).copied().unwrap_or(0);
    let (shard, choice) = choose(SHARD_OF_CPU.get(cpu).copied(), context.hash(), shards);
    match LISTENERS.select_reuseport(&context, shard) {
        Ok(()) => count(choice),
        Err(_) => count(Choice::Kernel),
    }
    SK_PASS
}

fn count(choice: Choice) {
    if let Some(count) = CHOSEN.get_ptr_mut(choice as u32) {
        // SAFETY: the map gave this pointer to this CPU's own slot, and a program is not moved or interrupted by itself
        // while it runs.
        unsafe { *count += 1 };
    }
}

/// The language wants one; the kernel would not accept a program that can get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence that the kernel asks for. No helper that only GPL programs may call is used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 18] = *b"Apache-2.0 OR MIT\0";
