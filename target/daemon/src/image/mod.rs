//! `stampede image`: image files outside a running target. What is done is in the crate `chain`; this asks for it and shows what came of it.

mod args;
mod show;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stampede_chain::{
    Chain, ChainError, Comparison, ConvertOptions, CreateOptions, Formats, OpenOptions, ParentOptions, Roots,
    compare, convert, create,
};
use stampede_plugin::{Job, Mode, ParentHint, ParentRef, Range, Repair, Report, View};

use crate::Failure;
use crate::ask::{print, print_json};
pub(crate) use args::ImageCommandArgs;
use args::{
    ChainArgs, CheckArgs, CloneArgs, CompareArgs, ConvertArgs, CreateArgs, ImageArgs, ImageCommand, NewArgs,
    RelinkArgs, RepairName, ResizeImageArgs, SnapshotArgs, SnapshotCommand,
};

/// Two disks differ, or a check found that space is lost.
const FOUND: u8 = 3;
/// A check found that data may be lost.
const FOUND_ERRORS: u8 = 4;

/// Does what the command line asks for.
pub(crate) fn image(arguments: &ImageCommandArgs) -> Result<(), Failure> {
    let formats = &crate::formats::Formats::load(&arguments.plugins)?;
    match &arguments.command {
        ImageCommand::Info(arguments) => info(formats, arguments),
        ImageCommand::Create(arguments) => make(formats, arguments),
        ImageCommand::Clone(arguments) => clone(formats, arguments),
        ImageCommand::Convert(arguments) => copy(formats, arguments),
        ImageCommand::Check(arguments) => check(formats, arguments),
        ImageCommand::Snapshot(command) => snapshot(formats, command),
        ImageCommand::Relink(arguments) => relink(formats, arguments),
        ImageCommand::Resize(arguments) => resize(formats, arguments),
        ImageCommand::Map(arguments) => map(formats, arguments),
        ImageCommand::Compare(arguments) => contrast(formats, arguments),
    }
}

/// The format of a file: as it was said, or by the file's ending.
fn format_of(formats: &dyn Formats, file: &Path, said: Option<&String>) -> Result<String, Failure> {
    if let Some(format) = said {
        return Ok(format.clone());
    }
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let has_ending = |name: &String| {
        let instance = formats.instance(name, file).and_then(Result::ok);
        instance.is_some_and(|format| format.describe().extensions.contains(&ending))
    };
    formats.names().into_iter().find(has_ending).ok_or_else(|| {
        Failure::Usage(anyhow!(
            "{}: its ending says nothing of its format, and formats are not guessed from what a file has; say it with \
             --format: {}",
            file.display(),
            formats.names().join(", ")
        ))
    })
}

fn failure(error: ChainError) -> Failure {
    match error {
        ChainError::Io { .. } => Failure::runtime(error),
        _ => Failure::usage(error),
    }
}

fn open(formats: &dyn Formats, arguments: &ImageArgs, mode: Mode, parents: bool) -> Result<Chain, Failure> {
    let format = format_of(formats, &arguments.file, arguments.format.as_ref())?;
    open_file(formats, &arguments.file, format, &arguments.chain, mode, parents)
}

fn open_file(
    formats: &dyn Formats,
    file: &Path,
    format: String,
    chain: &ChainArgs,
    mode: Mode,
    parents: bool,
) -> Result<Chain, Failure> {
    Chain::open(formats, file, &open_options(file, format, chain, mode, parents)).map_err(failure)
}

fn open_options(file: &Path, format: String, chain: &ChainArgs, mode: Mode, parents: bool) -> OpenOptions {
    OpenOptions {
        mode,
        format,
        roots: Roots::new(&chain.root).with_folder_of(file),
        parent_format: chain.parent_format.clone(),
        parents,
        any_parent: false,
        lock: true,
    }
}

fn info(formats: &dyn Formats, arguments: &ImageArgs) -> Result<(), Failure> {
    let mut chain = open(formats, arguments, Mode::ReadOnly, true)?;
    let info = chain.info(formats).map_err(failure)?;
    if arguments.output.json {
        return print_json(serde_json::to_string_pretty(&info));
    }
    print(&show::info(&info))
}

fn new_image(format: String, virtual_size: Option<u64>, new: &NewArgs) -> CreateOptions {
    CreateOptions { format, virtual_size, options: new.options.clone(), parent: None, replace: new.replace }
}

fn make(formats: &dyn Formats, arguments: &CreateArgs) -> Result<(), Failure> {
    let format = format_of(formats, &arguments.file, arguments.format.as_ref())?;
    let options = new_image(format, Some(arguments.size.0), &arguments.new);
    create(formats, &arguments.file, &options).map_err(failure)
}

fn clone(formats: &dyn Formats, arguments: &CloneArgs) -> Result<(), Failure> {
    let parent = ParentOptions {
        path: arguments.parent.clone(),
        format: format_of(formats, &arguments.parent, arguments.chain.parent_format.as_ref())?,
        roots: Roots::new(&arguments.chain.root),
    };
    let format = format_of(formats, &arguments.file, arguments.format.as_ref())?;
    let options = CreateOptions { parent: Some(parent), ..new_image(format, None, &arguments.new) };
    create(formats, &arguments.file, &options).map_err(failure)
}

fn copy(formats: &dyn Formats, arguments: &ConvertArgs) -> Result<(), Failure> {
    let mut source = open(formats, &arguments.image, Mode::ReadOnly, true)?;
    let view = match &arguments.snapshot {
        None => View::Active,
        Some(name) => view_of(formats, &mut source, name)?,
    };
    let format = format_of(formats, &arguments.target, arguments.to.as_ref())?;
    let options = ConvertOptions { create: new_image(format, None, &arguments.new), view };
    let bar = progress("Copying");
    let result = convert(formats, &mut source, &arguments.target, &options, &mut |done, total| {
        advance(&bar, done, total)
    });
    bar.finish_and_clear();
    result.map_err(failure)
}

fn view_of(formats: &dyn Formats, chain: &mut Chain, name: &str) -> Result<View, Failure> {
    let report = chain.job(formats, Job::SnapshotList, &mut |_, _| ()).map_err(failure)?;
    let named = |by: fn(&stampede_plugin::SnapshotInfo) -> &String| {
        report.snapshots.iter().position(|snapshot| by(snapshot) == name)
    };
    let found = named(|snapshot| &snapshot.name).or_else(|| named(|snapshot| &snapshot.id));
    match found.and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(View::Snapshot(number)),
        None => Err(Failure::Usage(anyhow!(
            "there is no snapshot {name:?}; stampede image snapshot list names them"
        ))),
    }
}

/// A bar on standard error, if that is a terminal.
fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

fn check(formats: &dyn Formats, arguments: &CheckArgs) -> Result<(), Failure> {
    let (repair, mode) = match arguments.repair {
        None => (Repair::No, Mode::ReadOnly),
        Some(RepairName::Leaks) => (Repair::Leaks, Mode::ReadWrite),
        Some(RepairName::All) => (Repair::All, Mode::ReadWrite),
    };
    let image = &arguments.image;
    let format = format_of(formats, &image.file, image.format.as_ref())?;
    let options = open_options(&image.file, format, &image.chain, mode, false);
    let mut chain = Chain::open_to_check(formats, &image.file, &options).map_err(failure)?;
    let bar = progress("Checking");
    let result = chain.job(formats, Job::Check(repair), &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let report = result.map_err(failure)?;
    if repair != Repair::No && report.error_count == report.repaired_errors {
        chain.close().map_err(failure)?;
    }
    if arguments.image.output.json {
        print_json(serde_json::to_string_pretty(&show::CheckReport::from(&report)))?;
    } else {
        print(&show::check(&report))?;
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    if report.error_count > report.repaired_errors {
        return Err(Failure::Found(FOUND_ERRORS));
    }
    if report.leaked_bytes > report.repaired_bytes {
        return Err(Failure::Found(FOUND));
    }
    Ok(())
}

fn snapshot(formats: &dyn Formats, command: &SnapshotCommand) -> Result<(), Failure> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0);
    let name = |arguments: &SnapshotArgs| arguments.name.clone();
    match command {
        SnapshotCommand::List(arguments) => snapshot_list(formats, arguments),
        SnapshotCommand::Create(one) => {
            change(formats, &one.image, Job::SnapshotCreate { name: name(one), time })
        }
        SnapshotCommand::Apply(one) => change(formats, &one.image, Job::SnapshotApply { name: name(one) }),
        SnapshotCommand::Delete(one) => change(formats, &one.image, Job::SnapshotDelete { name: name(one) }),
    }
}

fn snapshot_list(formats: &dyn Formats, arguments: &ImageArgs) -> Result<(), Failure> {
    let mut chain = open(formats, arguments, Mode::ReadOnly, false)?;
    let report = chain.job(formats, Job::SnapshotList, &mut |_, _| ()).map_err(failure)?;
    let snapshots: Vec<_> = report.snapshots.into_iter().map(stampede_chain::Snapshot::from).collect();
    if arguments.output.json {
        return print_json(serde_json::to_string_pretty(&snapshots));
    }
    print(&show::snapshots(&snapshots))
}

/// Does a job that changes the image.
fn change(formats: &dyn Formats, arguments: &ImageArgs, job: Job) -> Result<(), Failure> {
    let mut chain = open(formats, arguments, Mode::ReadWrite, false)?;
    chain.job(formats, job, &mut |_, _| ()).map_err(failure)?;
    chain.close().map_err(failure)
}

fn relink(formats: &dyn Formats, arguments: &RelinkArgs) -> Result<(), Failure> {
    let chain = &arguments.image.chain;
    let format = format_of(formats, &arguments.parent, chain.parent_format.as_ref())?;
    let parent = open_file(formats, &arguments.parent, format.clone(), chain, Mode::ReadOnly, true)?;
    let mut child = open(formats, &arguments.image, Mode::ReadWrite, false)?;
    let (is, wanted) = (parent.opened(), child.opened().parent.clone());
    let Some(wanted) = wanted else {
        return Err(Failure::Usage(anyhow!("{}: it has no parent", arguments.image.file.display())));
    };
    let other_identity =
        matches!((wanted.identity, is.identity), (Some(wanted), Some(is)) if wanted.id != is.id);
    let other_size = wanted.virtual_size.is_some_and(|size| size != is.virtual_size);
    if (other_identity || other_size) && !arguments.force {
        return Err(Failure::Usage(anyhow!(
            "{}: it is not the parent that {} was made on (its {} differs); --force takes it all the same, and if its contents \
             differ, the disk is corrupt afterwards",
            arguments.parent.display(),
            arguments.image.file.display(),
            if other_identity { "identity" } else { "size" }
        )));
    }
    let hints = stampede_chain::names_of(&arguments.image.file, &arguments.parent).map_err(failure)?;
    let hint = |(kind, name): (&str, String)| ParentHint { kind: kind.into(), name };
    let reference = ParentRef {
        hints: hints.into_iter().map(hint).collect(),
        format: Some(format),
        identity: is.identity,
        virtual_size: Some(is.virtual_size),
    };
    child.job(formats, Job::Relink(reference), &mut |_, _| ()).map_err(failure)?;
    child.close().map_err(failure)
}

fn resize(formats: &dyn Formats, arguments: &ResizeImageArgs) -> Result<(), Failure> {
    let mut chain = open(formats, &arguments.image, Mode::ReadWrite, true)?;
    let job = Job::Resize { virtual_size: arguments.size.0, shrink: arguments.shrink };
    chain.job(formats, job, &mut |_, _| ()).map_err(failure)?;
    chain.close().map_err(failure)
}

fn map(formats: &dyn Formats, arguments: &ImageArgs) -> Result<(), Failure> {
    let mut chain = open(formats, arguments, Mode::ReadOnly, true)?;
    let segments = chain.segments(Range { offset: 0, length: u64::MAX }).map_err(failure)?;
    if arguments.output.json {
        return print_json(serde_json::to_string_pretty(&segments));
    }
    print(&show::map(&segments))
}

fn contrast(formats: &dyn Formats, arguments: &CompareArgs) -> Result<(), Failure> {
    let mut one = open(formats, &arguments.image, Mode::ReadOnly, true)?;
    let format = format_of(formats, &arguments.other, arguments.other_format.as_ref())?;
    let mut other =
        open_file(formats, &arguments.other, format, &arguments.image.chain, Mode::ReadOnly, true)?;
    let bar = progress("Comparing");
    let result = compare(&mut one, &mut other, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let found = result.map_err(failure)?;
    if arguments.image.output.json {
        print_json(serde_json::to_string_pretty(&found))?;
    } else {
        print(
            match found {
                Comparison::Same => "The disks are the same.\n".to_string(),
                Comparison::SameButLength => {
                    "The disks are the same, but one is longer, with zeros.\n".to_string()
                }
                Comparison::Differs { offset } => format!("The disks differ, first at byte {offset}.\n"),
            }
            .as_str(),
        )?;
    }
    match found {
        Comparison::Differs { .. } => Err(Failure::Found(FOUND)),
        Comparison::Same | Comparison::SameButLength => Ok(()),
    }
}
