//! What an image is made as.

use stampede_format_qcow2::Qcow2;
use stampede_plugin::{
    Created, Identity, Job, ParentHint, ParentRef,
    model::{Disk, Model},
};

use super::draw::Draw;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub cluster: u64,
    pub v2: bool,
    pub refcount_bits: u64,
    pub extended: bool,
    pub lazy: bool,
    pub zstd: bool,
    pub data_file: bool,
    pub raw: bool,
    pub size: u64,
    /// The parent's bytes.
    pub parent: Option<Vec<u8>>,
}

impl Config {
    pub fn plain(cluster: u64, size: u64) -> Self {
        Self {
            cluster,
            v2: false,
            refcount_bits: 16,
            extended: false,
            lazy: false,
            zstd: false,
            data_file: false,
            raw: false,
            size,
            parent: None,
        }
    }

    pub fn drawn(draw: &mut Draw) -> Self {
        let cluster = draw.one(&[512, 512, 1024, 4096, 16384, 65536, 65536, 2 << 20]);
        let clusters = match cluster {
            0..=1024 => 600,
            65537.. => 5,
            _ => 60,
        };
        let size = cluster * clusters + draw.one(&[0, 512, 1536]);
        let mut config = Self::plain(cluster, size);
        match draw.below(6) {
            0 => config.v2 = true,
            kind => {
                config.refcount_bits = draw.one(&[1, 2, 4, 8, 16, 16, 32, 64]);
                config.extended = cluster >= 16384 && draw.below(2) == 0;
                config.lazy = draw.below(3) == 0;
                config.zstd = draw.below(2) == 0;
                config.data_file = kind == 1;
                config.raw = config.data_file && draw.below(2) == 0;
            }
        }
        if !config.raw && draw.below(2) == 0 {
            let length = draw.one(&[size, size * 2, (size / 1024 + 1) * 512]);
            config.parent = Some(draw.bytes(length as usize));
        }
        config
    }

    /// Options by name, as both this plugin and `qemu-img create -o` take them.
    pub fn options(&self) -> Vec<(String, String)> {
        let on = |on: bool| if on { "on" } else { "off" }.to_string();
        let mut options = vec![
            ("cluster_size".to_string(), self.cluster.to_string()),
            ("compat".to_string(), if self.v2 { "0.10" } else { "1.1" }.to_string()),
        ];
        if !self.v2 {
            options.push(("refcount_bits".into(), self.refcount_bits.to_string()));
            options.push(("lazy_refcounts".into(), on(self.lazy)));
            options.push(("extended_l2".into(), on(self.extended)));
            options.push(("compression_type".into(), if self.zstd { "zstd" } else { "zlib" }.into()));
        }
        if self.data_file {
            options.push(("data_file".into(), "data.raw".into()));
            options.push(("data_file_raw".into(), on(self.raw)));
        }
        options
    }

    /// An image of it, made here.
    pub fn make(&self) -> Disk {
        let files = vec![vec![]; if self.data_file { 2 } else { 1 }];
        let mut model = Model::new(Qcow2::default(), Disk::new(files));
        let parent = self.parent.as_ref().map(|_| ParentRef {
            hints: vec![ParentHint { kind: "relative".into(), name: "parent.raw".into() }],
            format: Some("raw".into()),
            identity: None,
            virtual_size: None,
        });
        let identity = Identity { id: [7; 16], time: None };
        let created = Created { virtual_size: self.size, options: self.options(), parent, identity };
        model.job(Job::Create(created)).unwrap();
        Disk::new(model.into_disk().files().to_vec())
    }
}
