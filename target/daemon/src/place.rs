//! From a configuration to a placement on a machine.

use crate::Failure;
use stampede_control::config::Config;
use stampede_steer::placement::{Placement, PlacementError, Wanted};
use stampede_steer::topology::Topology;
use std::path::Path;

/// Reads the machine below `root`.
pub(crate) fn read(root: &Path) -> Result<Topology, Failure> {
    Topology::read(root).map_err(Failure::usage)
}

/// Where the configuration puts things on a machine.
pub(crate) fn on(topology: &Topology, config: &Config) -> Result<Placement, PlacementError> {
    let listen: Vec<_> = config.listen.iter().map(std::net::SocketAddr::ip).collect();
    let cores = config.cores.items();
    let wanted = Wanted { cores, control: config.control_core, numa: &config.numa.0, listen: &listen };
    stampede_steer::placement::place(topology, &wanted)
}

/// Both.
pub(crate) fn place(config: &Config, root: &Path) -> Result<(Topology, Placement), Failure> {
    let topology = read(root)?;
    let placement = on(&topology, config).map_err(Failure::usage)?;
    Ok((topology, placement))
}
