//! A world of real sockets and files around an io_uring ring.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use this module")]

use stampede_ring::file::{Access, OpenConfig, open_with};
use stampede_ring::net::{ListenConfig, listen};
use stampede_ring::script::{ClientId, ScriptWorld};
use stampede_ring::uring::{UringConfig, UringRing};
use stampede_ring::{Buffer, Completion, FileId, IoMemory, Ring, SocketId, Wait, clock};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

#[derive(Clone, Copy)]
pub(crate) struct Config {
    pub(crate) in_memory: bool,
    pub(crate) direct: bool,
    pub(crate) register: bool,
    pub(crate) receive_buffers: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { in_memory: false, direct: true, register: true, receive_buffers: 8 }
    }
}

pub(crate) struct UringWorld {
    pub(crate) ring: UringRing,
    other: UringRing,
    pub(crate) memory: IoMemory,
    config: Config,
    folder: tempfile::TempDir,
    files: BTreeMap<FileId, PathBuf>,
    listeners: BTreeMap<SocketId, SocketAddr>,
    clients: Vec<Option<TcpStream>>,
}

pub(crate) fn small_config() -> UringConfig {
    UringConfig {
        entries: 256,
        completions: 1024,
        operations_max: 512,
        sockets_max: 128,
        files_max: 32,
        receive_buffers: 8,
        ..UringConfig::default()
    }
}

impl UringWorld {
    pub(crate) fn new(config: Config) -> Self {
        let memory = IoMemory::new(4 << 20).unwrap();
        let pools = if config.register { memory.pools() } else { &[] };
        let ring_config = UringConfig { receive_buffers: config.receive_buffers, ..small_config() };
        let ring = UringRing::new(&ring_config, pools).unwrap();
        let other = UringRing::new(&ring_config, pools).unwrap();
        assert_eq!(ring.report().unregistered_files_reason, None);
        let parent = if config.in_memory { "/dev/shm" } else { env!("CARGO_TARGET_TMPDIR") };
        let folder = tempfile::tempdir_in(parent).unwrap();
        Self {
            ring,
            other,
            memory,
            config,
            folder,
            files: BTreeMap::new(),
            listeners: BTreeMap::new(),
            clients: Vec::new(),
        }
    }

    fn client(&mut self, client: ClientId) -> &mut TcpStream {
        self.clients[client.0 as usize].as_mut().unwrap()
    }

    pub(crate) fn address(&self, listener: SocketId) -> SocketAddr {
        self.listeners[&listener]
    }
}

impl ScriptWorld for UringWorld {
    type R = UringRing;

    fn ring(&mut self) -> &mut UringRing {
        &mut self.ring
    }

    fn swap_rings(&mut self) {
        std::mem::swap(&mut self.ring, &mut self.other);
    }

    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn receive_buffers(&self) -> u16 {
        self.config.receive_buffers
    }

    fn file(&mut self, contents: &[u8]) -> FileId {
        let path = self.folder.path().join(format!("file{}", self.files.len()));
        std::fs::write(&path, contents).unwrap();
        let config = OpenConfig { direct: self.config.direct, ..OpenConfig::new(Access::ReadWrite) };
        let file = open_with(&path, config).unwrap();
        assert_eq!(file.traits().in_memory, self.config.in_memory);
        let id = self.ring.add_file(file).unwrap();
        self.files.insert(id, path);
        id
    }

    fn file_contents(&mut self, file: FileId) -> Vec<u8> {
        std::fs::read(&self.files[&file]).unwrap()
    }

    fn buffer(&mut self, len: u32) -> Buffer {
        self.memory.take(len).unwrap()
    }

    fn listener(&mut self) -> SocketId {
        let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenConfig::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let id = self.ring.add_listener(listener).unwrap();
        self.listeners.insert(id, address);
        id
    }

    fn client_connect(&mut self, listener: SocketId) -> ClientId {
        let stream = TcpStream::connect(self.listeners[&listener]).unwrap();
        self.clients.push(Some(stream));
        ClientId(self.clients.len() as u32 - 1)
    }

    fn client_send(&mut self, client: ClientId, bytes: &[u8]) {
        let stream = self.client(client);
        stream.set_nonblocking(false).unwrap();
        stream.write_all(bytes).unwrap();
    }

    fn client_receive(&mut self, client: ClientId, max: usize) -> Vec<u8> {
        let stream = self.client(client);
        stream.set_nonblocking(true).unwrap();
        let mut bytes = vec![0; max];
        let mut filled = 0;
        while filled < max {
            match stream.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        bytes.truncate(filled);
        bytes
    }

    fn client_saw_end(&mut self, client: ClientId) -> bool {
        let stream = self.client(client);
        stream.set_nonblocking(true).unwrap();
        match stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn client_finish(&mut self, client: ClientId) {
        self.client(client).shutdown(std::net::Shutdown::Write).unwrap();
    }

    fn client_reset(&mut self, client: ClientId) {
        let stream = self.clients[client.0 as usize].take().unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }

    fn turn(&mut self, batch: &mut Vec<Completion>) {
        let until = clock::monotonic_ns() + 2_000_000;
        self.ring.submit(Wait::Until(until)).unwrap();
        self.ring.reap(batch);
    }
}
