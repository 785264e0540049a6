//! The real kernel, loopback and two shards: connections from a CPU arrive at that CPU's listener.
//!
//! Where the kernel refuses the program for want of a capability, a test is skipped with a loud message; with
//! STAMPEDE_TESTS_STRICT set it fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use stampede_ring::cpu;
use stampede_ring::net::{ListenConfig, listen};
use stampede_steer::reuseport::{Chosen, Portal, PortalReport, Steering, Step, is_loaded};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Connections from each CPU.
const CONNECTIONS: usize = 50;
/// Set for the child process of a test: it attaches, says the program's number, and waits for its end.
const CHILD: &str = "STAMPEDE_TEST_STEERING_CHILD";

/// Two listeners that share one address.
fn pair(address: &str) -> [TcpListener; 2] {
    let config = ListenConfig { reuse_port: true, ..ListenConfig::default() };
    let first = listen(address.parse().unwrap(), &config).unwrap();
    let second = listen(first.local_addr().unwrap(), &config).unwrap();
    [first, second].map(|listener| {
        listener.set_nonblocking(true).unwrap();
        listener
    })
}

/// Attaches, or says why the test cannot run here.
fn attach(cores: &[u16], groups: &[&[TcpListener]]) -> Option<Steering> {
    let sockets: Vec<Vec<BorrowedFd<'_>>> =
        groups.iter().map(|group| group.iter().map(AsFd::as_fd).collect()).collect();
    let portals: Vec<Portal<'_>> = groups
        .iter()
        .zip(&sockets)
        .map(|(group, sockets)| Portal { address: group[0].local_addr().unwrap(), listeners: sockets })
        .collect();
    match Steering::by_cpu(cores, &portals) {
        Ok(steering) => Some(steering),
        Err(error) if error.is_denied() && std::env::var_os("STAMPEDE_TESTS_STRICT").is_none() => {
            eprintln!("=== SKIPPED: {error} ===");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Two CPUs that this process may use.
fn two_cpus() -> Option<[u16; 2]> {
    let cpus: Vec<u16> = cpu::allowed().unwrap().into_iter().map(|cpu| cpu as u16).collect();
    if cpus.len() < 2 {
        assert!(std::env::var_os("STAMPEDE_TESTS_STRICT").is_none(), "one CPU is too few");
        eprintln!("=== SKIPPED: one CPU is too few to choose between ===");
        return None;
    }
    Some([cpus[0], cpus[1]])
}

/// Connects from one CPU, and says how many connections arrived at each listener.
fn arrivals(cpu: u16, group: &[TcpListener]) -> Vec<usize> {
    let address = group[0].local_addr().unwrap();
    let clients = std::thread::spawn(move || {
        cpu::pin_current_thread(usize::from(cpu)).unwrap();
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
    });
    let clients = clients.join().unwrap();
    let counts: Vec<usize> = group.iter().map(drain).collect();
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    counts
}

fn drain(listener: &TcpListener) -> usize {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn connections_arrive_at_the_shard_of_their_cpu_on_every_portal() {
    let Some([a, b]) = two_cpus() else { return };
    let portals = [pair("127.0.0.1:0"), pair("[::1]:0")];
    // The second core gets shard 0, so that a mix-up of cores and shards shows.
    let Some(steering) = attach(&[b, a], &[&portals[0], &portals[1]]) else { return };
    assert_eq!((steering.step(), steering.reason()), (Step::ReuseportByCpu, ""));
    for portal in &portals {
        assert_eq!(arrivals(a, portal), [0, CONNECTIONS]);
        assert_eq!(arrivals(b, portal), [CONNECTIONS, 0]);
    }
    let by_cpu = Chosen { by_cpu: 2 * CONNECTIONS as u64, ..Chosen::default() };
    let reports = steering.portals();
    assert_eq!(reports.len(), 2);
    for (report, portal) in reports.iter().zip(&portals) {
        assert_eq!(report.address, portal[0].local_addr().unwrap());
        assert_eq!(report.chosen, Some(by_cpu));
    }
    assert_ne!(reports[0].program_id, reports[1].program_id);
}

#[test]
fn a_cpu_without_a_shard_spreads_by_hash() {
    let Some([a, b]) = two_cpus() else { return };
    let portal = pair("127.0.0.1:0");
    // CPU `a` has shard 0; no process runs on the other shard's.
    let Some(steering) = attach(&[a, 999], &[&portal]) else { return };
    let counts = arrivals(b, &portal);
    // The chance that a fair choice puts all 50 on one side is 2 in 2^50.
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(arrivals(a, &portal), [CONNECTIONS, 0]);
    let chosen = steering.portals()[0].chosen.unwrap();
    assert_eq!((chosen.by_cpu, chosen.by_hash, chosen.by_kernel), (50, 50, 0));
}

#[test]
fn a_shard_that_no_longer_listens_loses_no_connection() {
    let Some([a, b]) = two_cpus() else { return };
    let [first, second] = pair("127.0.0.1:0");
    let group = [first, second];
    let Some(steering) = attach(&[a, b], &[&group]) else { return };
    let [first, second] = group;
    drop(second);
    assert_eq!(arrivals(b, &[first]), [CONNECTIONS]);
    assert_eq!(steering.portals()[0].chosen.unwrap().by_kernel, CONNECTIONS as u64);
}

#[test]
fn detached_the_kernel_chooses_and_the_program_is_gone() {
    let Some([a, b]) = two_cpus() else { return };
    let portal = pair("127.0.0.1:0");
    let Some(steering) = attach(&[a, b], &[&portal]) else { return };
    let PortalReport { program_id, .. } = steering.portals()[0];
    assert!(is_loaded(program_id).unwrap());
    steering.detach().unwrap();
    steering.detach().unwrap();
    let counts = arrivals(a, &portal);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(steering.portals()[0].chosen, Some(Chosen::default()));
    eventually("the program is still there", || !is_loaded(program_id).unwrap());
}

#[test]
fn a_dropped_steering_leaves_nothing_attached() {
    let Some([a, b]) = two_cpus() else { return };
    let portal = pair("127.0.0.1:0");
    let Some(steering) = attach(&[a, b], &[&portal]) else { return };
    let PortalReport { program_id, .. } = steering.portals()[0];
    drop(steering);
    eventually("the program is still there", || !is_loaded(program_id).unwrap());
}

/// Not a test of its own: the process that the next one kills.
#[test]
fn child_that_attaches_and_waits() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let portal = pair("127.0.0.1:0");
    let [a, b] = two_cpus().unwrap();
    let steering = attach(&[a, b], &[&portal]);
    match &steering {
        Some(steering) => println!("\nattached {}", steering.portals()[0].program_id),
        None => println!("\nrefused"),
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_nothing_attached() {
    if two_cpus().is_none() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_attaches_and_waits", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.into_iter().find(|line| line.starts_with("attached") || line.starts_with("refused"));
    let said = said.unwrap();
    let attached = said.strip_prefix("attached ").map(|id| id.parse::<u32>().unwrap());
    let was_there = attached.is_some_and(|id| is_loaded(id).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let Some(id) = attached else { return };
    assert!(was_there);
    eventually("the program outlived its process", || !is_loaded(id).unwrap());
}

#[test]
fn sockets_that_share_no_port_are_refused_with_the_kernels_reason() {
    let Some([a, b]) = two_cpus() else { return };
    let alone = |_| listen("127.0.0.1:0".parse().unwrap(), &ListenConfig::default()).unwrap();
    let [first, second] = [0, 1].map(alone);
    let address: SocketAddr = first.local_addr().unwrap();
    let sockets = [first.as_fd(), second.as_fd()];
    let error = Steering::by_cpu(&[a, b], &[Portal { address, listeners: &sockets }]).unwrap_err();
    if !error.is_denied() {
        let text = error.to_string();
        assert!(text.contains("Invalid argument") && text.contains(&address.to_string()), "{text}");
    }
}
