//! A shard on a thread of its own, which ends with the test.

use stampede_null_target::server::{Connection, Shard, Watch};
use stampede_null_target::stats::Published;
use stampede_ring::net::{ListenConfig, listen};
use stampede_ring::uring::Waker;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// A shard that serves on loopback until it is dropped.
pub(crate) struct Serving {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its counters.
    pub(crate) watch: Arc<Watch>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves connections of kind `C` on a free port.
    pub(crate) fn start<C: Connection>(shared: C::Shared) -> Self
    where
        C::Shared: 'static,
    {
        let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenConfig::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let watch = Arc::new(Watch {
            complain: |_| {},
            counters: Published::default(),
            stop: AtomicBool::new(false),
        });
        let (for_thread, (hello, ready)) = (Arc::clone(&watch), mpsc::channel());
        let thread = std::thread::spawn(move || {
            let shard = Shard::<C>::new(listener, Arc::new(shared), for_thread, 1 << 20).unwrap();
            hello.send(shard.waker()).unwrap();
            shard.run().unwrap();
        });
        Self { address, watch, waker: ready.recv().unwrap(), thread: Some(thread) }
    }

    /// Ends it and waits for its end; a shard that failed fails the test.
    pub(crate) fn stop(&mut self) {
        self.watch.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}
