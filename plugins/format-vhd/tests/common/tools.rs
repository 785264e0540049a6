//! Other readers of VHD: qemu-img, and libvhdi's Python module. Where one is not installed, what needs it says so and is skipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stampede-vhd-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether qemu-img is there.
pub(crate) fn have_qemu() -> bool {
    let have = runs("qemu-img", &["--version"]);
    if !have {
        eprintln!("SKIPPED: there is no qemu-img");
    }
    have
}

/// What qemu-img says.
pub(crate) fn qemu_img(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// How qemu-img is to open a VHD.
pub(crate) fn image_options(path: &Path) -> String {
    format!("driver=vpc,force_size_calc=current_size,file.driver=file,file.filename={}", path.display())
}

/// Whether qemu-img reads this disk out of an image.
pub(crate) fn qemu_agrees(folder: &Folder, file: &[u8], disk: &[u8]) -> Result<(), String> {
    let image = image_options(&folder.file("image.vhd", file));
    let raw =
        format!("driver=raw,file.driver=file,file.filename={}", folder.file("disk.raw", disk).display());
    qemu_img(&["compare", "--image-opts", &image, &raw]).map(drop)
}

/// Stretches of a disk that lie in the file, as qemu-img has them: start, length, place in the file.
pub(crate) fn qemu_map(folder: &Folder, file: &[u8]) -> Vec<(u64, u64, u64)> {
    let image = image_options(&folder.file("image.vhd", file));
    let json = qemu_img(&["map", "--output=json", "--image-opts", &image]).unwrap();
    let field = |object: &str, name: &str| -> Option<u64> {
        let rest = &object[object.find(&format!("\"{name}\": "))? + name.len() + 4..];
        rest.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
    };
    json.split('}')
        .filter(|object| object.contains("\"data\": true") && object.contains("\"offset\""))
        .map(|object| {
            let field = |name| field(object, name).unwrap();
            (field("start"), field("length"), field("offset"))
        })
        .collect()
}

/// The Python that has libvhdi's module: STAMPEDE_PYTHON, or python3.
pub(crate) fn python_with_libvhdi() -> Option<String> {
    let python = std::env::var("STAMPEDE_PYTHON").unwrap_or_else(|_| "python3".into());
    let have = runs(&python, &["-c", "import pyvhdi"]);
    if !have {
        eprintln!("SKIPPED: {python} has no pyvhdi (pip install libvhdi-python)");
    }
    have.then_some(python)
}

/// Read in pieces of 4 KiB: version 20260901 takes the rest of a read for the parent's that begins where the parent is read. It also reads wrongly what
/// lies in runs of sectors that do not fill bytes of a bitmap: the tests give it none.
const READ_BY_LIBVHDI: &str = "
import sys, pyvhdi
parent = pyvhdi.file(); parent.open(sys.argv[2])
child = pyvhdi.file(); child.open(sys.argv[1]); child.set_parent(parent)
size = child.get_media_size()
for at in range(0, size, 4096):
    sys.stdout.buffer.write(child.read_buffer_at_offset(min(4096, size - at), at))
";

/// The disk of a differencing image as libvhdi reads it.
pub(crate) fn read_by_libvhdi(python: &str, child: &Path, parent: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new(python).args(["-c", READ_BY_LIBVHDI]).arg(child).arg(parent).output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
