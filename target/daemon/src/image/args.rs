//! The command line of `stampede image`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use stampede_control::config::ByteSize;

use crate::formats::PluginArgs;

/// Arguments of `image`.
#[derive(Debug, Args)]
pub(crate) struct ImageCommandArgs {
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// What to do with image files. None of them may be in use by a writer, a running stampede or another program.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Say what an image is: format, size, parents, snapshots.
    Info(ImageArgs),
    /// Make an empty image.
    Create(CreateArgs),
    /// Make a child of an image: it takes the space of what is written to it.
    Clone(CloneArgs),
    /// Copy a disk into a new image of any format. Zeros take no space there; parents become part of it.
    Convert(ConvertArgs),
    /// Look for contradictions in an image. Exit code 3: only space is lost (leaks); 4: data may be.
    Check(CheckArgs),
    /// Internal snapshots of an image.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Write down another parent, which must have the same contents as the one before.
    Relink(RelinkArgs),
    /// Give the disk another size. The guest's partitions and file systems are its own affair.
    Resize(ResizeImageArgs),
    /// Show which stretch of the disk lies where in which file.
    Map(ImageArgs),
    /// Compare the disks of two images. Exit code 3: they differ.
    Compare(CompareArgs),
}

/// What to do with internal snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List them.
    List(ImageArgs),
    /// Make one of the disk as it is.
    Create(SnapshotArgs),
    /// Make the disk what it was then. What was written since is lost.
    Apply(SnapshotArgs),
    /// Remove one.
    Delete(SnapshotArgs),
}

/// Which image is meant, and how it is opened.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image's file or block device.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Its format. Without it the file's ending decides; what is in the file never does.
    #[arg(long, short = 'f')]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How parents are found.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChainArgs {
    /// A folder beneath which parents and data files may lie, besides the image's own; may be given several times.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Vec<PathBuf>,
    /// The format of a parent whose child does not say it.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) parent_format: Option<String>,
}

/// How answers are given.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `image create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file that is made.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How large its disk is, as in 20G.
    #[arg(value_name = "SIZE")]
    pub(crate) size: ByteSize,
    /// Its format. Without it the file's ending decides.
    #[arg(long, short = 'f')]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) new: NewArgs,
}

/// Arguments of everything that makes an image.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// An option of the format, as in cluster_size=64K; may be given several times.
    #[arg(long = "option", short = 'o', value_name = "NAME=VALUE", value_parser = option)]
    pub(crate) options: Vec<(String, String)>,
    /// Replace a file that is there already.
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Arguments of `image clone`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// The image that becomes a parent: nobody may write to it any more.
    #[arg(value_name = "PARENT")]
    pub(crate) parent: PathBuf,
    /// The file that is made.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Its format. Without it the file's ending decides.
    #[arg(long, short = 'f')]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) new: NewArgs,
}

/// Arguments of `image convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The image that is copied.
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The file that is made.
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// Its format. Without it the file's ending decides.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<String>,
    /// The disk as it was at this internal snapshot.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
    #[command(flatten)]
    pub(crate) new: NewArgs,
}

/// Arguments of `image check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// What is mended. Make a copy before mending errors.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) repair: Option<RepairName>,
}

/// What a check mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RepairName {
    /// Space that nobody refers to is given back.
    Leaks,
    /// Everything that can be.
    All,
}

/// Arguments of what is done with one snapshot.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The snapshot's name or id.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Arguments of `image relink`.
#[derive(Debug, Args)]
pub(crate) struct RelinkArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The parent. --parent-format says its format; without it, its ending does.
    #[arg(value_name = "PARENT")]
    pub(crate) parent: PathBuf,
    /// Take a parent whose identity is another: if its contents differ, the disk is corrupt afterwards.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `image resize`.
#[derive(Debug, Args)]
pub(crate) struct ResizeImageArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The new size, as in 40G.
    #[arg(value_name = "SIZE")]
    pub(crate) size: ByteSize,
    /// Allow a smaller size: what lies behind it is lost.
    #[arg(long)]
    pub(crate) shrink: bool,
}

/// Arguments of `image compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The other image.
    #[arg(value_name = "OTHER")]
    pub(crate) other: PathBuf,
    /// Its format. Without it the file's ending decides.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) other_format: Option<String>,
}

fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}
