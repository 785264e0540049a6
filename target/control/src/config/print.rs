//! The effective configuration as TOML that reads back equal, with a comment on every key.

use super::values::{AluaRule, CloneKind, OnLost, StageRule};
use super::{ChapConfig, Config, GRACE_DEFAULT, HOLD_DEFAULT, TargetConfig};
use std::fmt::{Display, Write};

/// What each key means; printed above it. The order is that of printing.
const COMMENTS: &[(&str, &str)] = &[
    ("listen", "Addresses and ports to listen on. Default: [\"127.0.0.1:3260\"]."),
    (
        "cores",
        "Cores that get a shard (one pinned thread) each: \"0\", \"0,1\", \"2-7\", \"numa0\" (one thread of each core of \
         node 0), \"numa0,12\", or \"auto\": one thread of each core, but for one core. Default: \"auto\".",
    ),
    ("control-core", "The core of the control thread. Default: a core without a shard."),
    (
        "numa",
        "\"auto\": cores of the network card's node first, each shard's memory on its own node. \"0\", \"0,2-3\": cores \
         of these nodes only. \"off\": nodes mean nothing. Default: \"auto\".",
    ),
    (
        "steering",
        "How new connections find their shard: \"cpu\": the shard on whose core their SYN was processed (takes CAP_BPF), \
         \"plain\": the kernel's hash, \"auto\": \"cpu\" if the kernel lets us. Default: \"auto\".",
    ),
    (
        "busy-poll",
        "Microseconds, at most, that a shard polls for the next command before it sleeps: less latency for more CPU. \
         Default: 0, never.",
    ),
    (
        "irq-affinity",
        "Interrupts of network cards' queues. \"report\": status says where they go and should go. \"set\": they are moved \
         to the shards' cores, and back at exit. Default: \"off\".",
    ),
    (
        "arena",
        "Memory for all ephemeral clones together. When it runs full they spill to scratch, if there is one; else further \
         writes are refused. Default: \"1G\".",
    ),
    (
        "arena-dir",
        "A folder on a tmpfs for the arena, of which all memory is taken at once: then clones outlive the process, as they do \
         with systemd's unit without this. Needs state-dir. Default: none.",
    ),
    (
        "scratch",
        "A file or block device, on a fast disk, that clones spill to when the arena runs full. What is on it is \
         overwritten, and means nothing after the end. Default: none.",
    ),
    (
        "scratch-size",
        "How much of scratch is used; a file is made, or made longer, and takes that space at once. Default: all that \
         it has.",
    ),
    ("cache", "Memory for blocks of goldens, each read once for all clones; 0 for none. Default: \"1G\"."),
    (
        "warm",
        "What is read into the cache at the start. \"auto\": what was recorded of each golden's boot, or all of it where nothing \
         was. \"all\": all of each. Default: \"off\".",
    ),
    ("buffers", "I/O buffers of each shard. Default: \"64M\"."),
    (
        "state-dir",
        "Where boot epochs and identities are kept. Default: none, and they do not survive a restart.",
    ),
    (
        "control",
        "The socket of `stampede status`. Default: control.sock in state-dir; without one, in /run/stampede (root) \
         or $XDG_RUNTIME_DIR/stampede.",
    ),
    ("login-timeout", "From accepting a connection to the end of its login. Default: \"15s\"."),
    (
        "drain-timeout",
        "At SIGTERM: how long initiators have until their sessions are closed. Default: \"10s\".",
    ),
    (
        "nop-interval",
        "How long an initiator may be silent before it is pinged (NOP-In). One that answered before and does not for 30s \
         is taken for dead; firmware is never pinged. 0: nobody is. Default: \"30s\".",
    ),
    ("log", "Which events are logged: a level, or a filter as in RUST_LOG. Default: \"info\"."),
    ("log-format", "\"text\" or \"json\". Default: \"text\"."),
    (
        "auth",
        "What an initiator must prove: \"none\", or \"chap\": that it knows the secret of one of the [[chap]] users. Default: \
         \"chap\" if there are any; targets may say otherwise.",
    ),
    ("discovery-auth", "The same for discovery sessions. Default: \"none\"."),
    (
        "chap-algorithms",
        "Algorithms of CHAP; the first that the initiator offers too is used. Firmware has md5 only. Default: all.",
    ),
    ("connections", "Sessions of one shard at once. Default: 4096."),
    (
        "logins",
        "Connections of one shard at once that log in, or only ask for targets (discovery); at the limit one that has said \
         nothing gives way, of the address that has the most. Default: 1024.",
    ),
    (
        "admissions",
        "Logins that are admitted at once; more wait for their turn, 4s at most, and are answered 0301 then. Default: 256.",
    ),
    (
        "sessions",
        "Sessions of all targets at once; further logins wait for one to end, 4s at most, and are answered 0302 then. \
         Default: 65535.",
    ),
    ("commands", "Commands of one session at once: its window. Default: 128."),
    ("clones", "Ephemeral clones of one target at once, in use or held. Default: 4096."),
    ("name", "What the target is called; its default IQN ends in it."),
    ("path", "The image: a raw file or a block device."),
    (
        "clone",
        "\"none\": the image itself. \"ephemeral\": each boot gets a copy-on-write clone. Default: \"none\".",
    ),
    ("ro", "Whether writes are refused. Default: false."),
    ("removable", "Whether the medium can be ejected and loaded (RMB). Default: false."),
    (
        "thin",
        "Whether initiators may give blocks back (UNMAP), which punches holes into the image. A clone always lets \
         them. Default: false.",
    ),
    ("block-size", "Logical block length in bytes: 512 or 4096. Default: 512."),
    ("physical-block", "Physical block length that initiators are told: 512 or 4096. Default: 4096."),
    ("lun", "LUN number beneath the IQN. Default: 0."),
    (
        "iqn",
        "Default: iqn.2026-11.io.stampede:NAME. Targets of one IQN and different LUNs are one iSCSI target.",
    ),
    ("user", "The name of CHAP: of a user, or what the target calls itself."),
    (
        "secret-file",
        "A file with the secret, at least 12 bytes, as its only line; not readable for everybody.",
    ),
    ("secret", "Or the secret itself, if this file is not readable for everybody. It is never printed."),
    (
        "targets",
        "For these targets only, by name or IQN. Default: without discovery = true, all that want CHAP, and discovery.",
    ),
    ("discovery", "For discovery sessions. Default: false."),
    ("initiators", "By these initiator names only. Default: any."),
    ("target", "The IQN of a target that initiators are sent elsewhere for."),
    ("to", "Address and port to log in at instead."),
    ("permanent", "Whether initiators may remember it. Default: false."),
    ("stage", "How the stage of a login is told: \"auto\" (by its fingerprint), \"firmware\" or \"os\"."),
    (
        "alua",
        "Who may change the access state of its target port group: \"off\", \"implicit\" (the target; default) or \"explicit\" (initiators too).",
    ),
    (
        "sanitize-rate",
        "Bytes a second that SANITIZE writes at most, such as \"200M\". Default: no limit. Not for clones.",
    ),
    (
        "encryption",
        "How the image is encrypted: \"aes-xts\". Its key is kept in the state directory. Default: it is not. Not for clones.",
    ),
    (
        "encryption-key",
        "A file, only its owner's to read, with 32 bytes or 64 hexadecimal digits: the image's key is wrapped with it.",
    ),
    ("on-lost", "What an operating system gets whose clone was lost: \"refuse\" (default) or \"fresh\"."),
    ("grace", "How long a clone lives after a clean logout. Default: \"1m\"."),
    ("hold", "How long a clone is held after its session broke off. Default: \"24h\"."),
];

fn comment(key: &str) -> &'static str {
    COMMENTS.iter().find(|(k, _)| *k == key).map_or("", |(_, text)| text)
}

/// A growing TOML text.
struct Printer(String);

impl Printer {
    fn value(&mut self, key: &str, value: impl Into<toml::Value>) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# {}\n{key} = {}\n", comment(key), value.into());
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.value(key, value.to_string());
    }

    fn optional(&mut self, key: &str, value: Option<toml::Value>, example: &str) {
        match value {
            Some(value) => self.value(key, value),
            None => {
                let _ = write!(self.0, "# {}\n# {key} = {example}\n", comment(key));
            }
        }
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = String>, example: &str) {
        let values: Vec<_> = values.collect();
        let value = (!values.is_empty()).then(|| values.into());
        self.optional(key, value, &format!("[\"{example}\"]"));
    }

    fn heading(&mut self, heading: &str) {
        let _ = write!(self.0, "\n{heading}\n");
    }
}

impl Config {
    /// The configuration as TOML, every key with a comment that has its meaning and default. Reading it back gives
    /// an equal configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut p = Printer(String::new());
        p.value("listen", self.listen.iter().map(ToString::to_string).collect::<Vec<_>>());
        p.text("cores", &self.cores);
        p.optional("control-core", self.control_core.map(|core| i64::from(core).into()), "0");
        p.text("numa", &self.numa);
        p.text("steering", self.steering);
        p.value("busy-poll", i64::from(self.busy_poll));
        p.text("irq-affinity", self.irq_affinity);
        p.text("arena", self.arena);
        let arena_dir = self.arena_dir.as_ref().map(|dir| dir.display().to_string().into());
        p.optional("arena-dir", arena_dir, "\"/dev/shm\"");
        let scratch = self.scratch.as_ref().map(|path| path.display().to_string().into());
        p.optional("scratch", scratch, "\"/var/lib/stampede/scratch\"");
        p.optional("scratch-size", self.scratch_size.map(|size| size.to_string().into()), "\"64G\"");
        p.text("cache", self.cache);
        p.text("warm", self.warm);
        p.text("buffers", self.buffers);
        let state_dir = self.state_dir.as_ref().map(|dir| dir.display().to_string().into());
        p.optional("state-dir", state_dir, "\"/var/lib/stampede\"");
        p.text("control", self.control.display());
        p.text("login-timeout", self.login_timeout);
        p.text("drain-timeout", self.drain_timeout);
        p.text("nop-interval", self.nop_interval);
        p.value("log", self.log.clone());
        p.text("log-format", self.log_format);
        p.text("auth", self.auth);
        p.text("discovery-auth", self.discovery_auth);
        p.value("chap-algorithms", self.chap_algorithms.iter().map(ToString::to_string).collect::<Vec<_>>());
        p.heading("[limits]");
        p.value("connections", i64::from(self.limits.connections));
        p.value("commands", i64::from(self.limits.commands));
        p.value("clones", i64::from(self.limits.clones));
        p.value("logins", i64::from(self.limits.logins));
        p.value("admissions", i64::from(self.limits.admissions));
        p.value("sessions", i64::from(self.limits.sessions));
        for user in &self.chap {
            p.heading("[[chap]]");
            print_chap(&mut p, user);
            p.list(
                "initiators",
                user.initiators.iter().map(ToString::to_string),
                "iqn.2026-11.io.example:host",
            );
        }
        for own in &self.chap_mutual {
            p.heading("[[chap-mutual]]");
            print_chap(&mut p, own);
        }
        if self.chap.is_empty() {
            p.0.push_str(SAMPLE_USER);
        }
        for redirect in &self.redirects {
            p.heading("[[redirect]]");
            p.text("target", &redirect.target);
            p.text("to", &redirect.to);
            p.value("permanent", redirect.permanent);
        }
        for target in &self.targets {
            p.heading("[[target]]");
            print_target(&mut p, target);
        }
        if self.targets.is_empty() {
            p.0.push_str(&sample_target());
        }
        p.0
    }
}

/// A user, commented out.
const SAMPLE_USER: &str = "
# Users that may log in, and with [[chap-mutual]] as whom targets prove themselves:
# [[chap]]
# user = \"rack1\"
# secret-file = \"/etc/stampede/rack1.secret\"
";

/// Name and place of a secret. The secret itself is never printed.
fn print_chap(p: &mut Printer, chap: &ChapConfig) {
    p.value("user", chap.user.clone());
    let file = chap.secret_file.as_ref().map(|path| path.display().to_string().into());
    p.optional("secret-file", file, "\"/etc/stampede/rack1.secret\"");
    p.optional("secret", None, "(not shown)");
    p.list("targets", chap.targets.iter().cloned(), "debian");
    p.value("discovery", chap.discovery);
}

/// Every key of a target, commented out.
fn sample_target() -> String {
    let mut p = Printer(String::new());
    p.heading("[[target]]");
    let mut sample = TargetConfig::new("debian", "/srv/images/debian.img");
    sample.clone = CloneKind::Ephemeral;
    print_target(&mut p, &sample);
    let commented = p.0.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line if line.starts_with('#') => format!("{line}\n"),
        line => format!("# {line}\n"),
    });
    commented.collect()
}

fn print_target(p: &mut Printer, target: &TargetConfig) {
    p.value("name", target.name.clone());
    p.text("path", target.path.display());
    p.text("clone", target.clone);
    p.value("ro", target.ro);
    p.value("removable", target.removable);
    p.value("thin", target.thin);
    p.value("block-size", i64::from(target.block_bytes()));
    p.value("physical-block", i64::from(target.physical_bytes()));
    p.value("lun", i64::from(target.lun));
    p.text("iqn", target.target_iqn());
    p.optional("auth", target.auth.map(|auth| auth.to_string().into()), "\"chap\"");
    p.text("alua", target.alua.unwrap_or(AluaRule::Implicit));
    if target.clone == CloneKind::None {
        p.optional("encryption", target.encryption.map(|how| how.to_string().into()), "\"aes-xts\"");
        let key = target.encryption_key.as_ref().map(|path| path.display().to_string().into());
        p.optional("encryption-key", key, "\"/etc/stampede/disk.key\"");
    }
    if target.clone == CloneKind::None && !target.ro {
        p.optional("sanitize-rate", target.sanitize_rate.map(|rate| rate.to_string().into()), "\"200M\"");
    }
    if target.clone == CloneKind::Ephemeral {
        p.text("stage", target.stage.unwrap_or(StageRule::Auto));
        p.text("on-lost", target.on_lost.unwrap_or(OnLost::Refuse));
        p.text("grace", target.grace.unwrap_or(GRACE_DEFAULT));
        p.text("hold", target.hold.unwrap_or(HOLD_DEFAULT));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IrqAffinity, Origin, Partial, RedirectConfig, read};
    use super::*;

    #[test]
    fn what_is_printed_reads_back_and_prints_the_same() {
        let flag = |text: &str| (Origin::Flag("--target"), text.parse().unwrap());
        let partial = Partial {
            cores: Some("0,2-3,numa1".parse().unwrap()),
            control_core: Some(1),
            numa: Some("0-1".parse().unwrap()),
            busy_poll: Some(30),
            irq_affinity: Some(IrqAffinity::Set),
            state_dir: Some("/var/lib/\"stampede\"".into()),
            targets: vec![
                flag("debian=/g.img,clone=ephemeral,hold=90m"),
                flag("data=/d\\x.raw,ro,lun=2"),
                flag("slow=/s.raw,sanitize-rate=200M"),
                flag("secret=/t.raw,encryption=aes-xts,encryption-key=/k"),
            ],
            ..Partial::default()
        };
        let config = partial.finish().unwrap();
        let text = config.to_toml();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, &text).unwrap();
        let again = read(&path).unwrap().finish().unwrap();
        assert_eq!(again.to_toml(), text);
        assert_eq!((again.listen, again.cores, again.limits), (config.listen, config.cores, config.limits));
        assert_eq!(again.targets[0].hold, config.targets[0].hold);
        assert_eq!(again.targets[2].sanitize_rate, config.targets[2].sanitize_rate);
        assert_eq!(
            (again.state_dir, again.busy_poll, again.irq_affinity),
            (config.state_dir, 30, IrqAffinity::Set)
        );
    }

    #[test]
    fn without_targets_a_sample_is_shown() {
        let text = Partial::default().effective().unwrap().to_toml();
        assert!(
            text.contains("\n# [[target]]\n") && text.contains("\n# path = \"/srv/images/debian.img\"\n"),
            "{text}"
        );
        assert!(toml::from_str::<toml::Table>(&text).unwrap().get("target").is_none());
    }

    #[test]
    fn every_key_has_a_comment() {
        let flag = Origin::Flag("--target");
        let user = ChapConfig {
            user: "u".to_owned(),
            secret: stampede_session::Secret::new(b"never to be seen").unwrap(),
            secret_file: None,
            targets: Vec::new(),
            discovery: false,
            initiators: Vec::new(),
        };
        let elsewhere = RedirectConfig {
            target: "iqn.2026-11.io.example:gone".parse().unwrap(),
            to: "192.0.2.2:3260".parse().unwrap(),
            permanent: false,
        };
        let partial = Partial {
            targets: ["a=/g,clone=ephemeral", "b=/b"]
                .map(|text| (flag.clone(), text.parse().unwrap()))
                .into(),
            chap: vec![(flag.clone(), user)],
            redirects: vec![(flag, elsewhere)],
            ..Partial::default()
        };
        let text = partial.finish().unwrap().to_toml();
        for (key, comment) in COMMENTS {
            assert!(text.contains(&format!("# {comment}\n")), "{key}");
            assert!(
                text.contains(&format!("\n{key} = "))
                    || text.contains(&format!("# {key} = "))
                    || *key == "listen"
            );
        }
        assert!(!text.contains("# \n") && !text.contains("never to be seen"), "{text}");
    }
}
