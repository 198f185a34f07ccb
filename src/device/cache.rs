//! Compiled pipelines on disk, so that the next start of a program does not compile them again.
//!
//! Whatever goes wrong with the file costs no more than the time to compile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, process};

use super::sync::lock;
use super::unsafe_wgpu;
use crate::hash::Hash;

/// Environment variable with the folder for compiled pipelines, or `off`.
pub const CACHE_VARIABLE: &str = "RECEPTIVE_CACHE";

const MAGIC: &[u8; 8] = b"rcptpso1";
const HEADER: usize = MAGIC.len() + size_of::<u64>();
/// A file that has grown beyond this, with pipelines of models long gone, is begun anew.
const MOST_BYTES: usize = 64 << 20;

/// The pipelines of one adapter.
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    identity: String,
    /// Bytes that were read when the device was opened.
    loaded: usize,
    /// The hash of what the file holds, as far as is known.
    stored: Mutex<Option<u64>>,
}

impl PipelineCache {
    /// The cache of a device, with what an earlier program left; nothing where the device has none, or the user wants none.
    pub fn open(device: &wgpu::Device) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let info = device.adapter_info();
        let path = folder(std::env::var_os(CACHE_VARIABLE).as_deref())?.join(wgpu::util::pipeline_cache_key(&info)?);
        // wgpu and the driver look for a change of themselves too; this one is in our hands.
        let identity = format!("{} {} {} {}", info.name, info.driver, info.driver_info, env!("CARGO_PKG_VERSION"));
        let data = match read(&path, &identity) {
            Ok(data) => Some(data),
            Err(error) => {
                log::debug!("compiled pipelines {}: {error}", path.display());
                None
            }
        };
        let cache = unsafe_wgpu::create_pipeline_cache(device, data.as_ref());
        let (loaded, stored) = data.map_or((0, None), |data| (data.bytes.len(), Some(data.hash)));
        log::debug!("compiled pipelines: {loaded} bytes from {}", path.display());
        Some(Self { cache, path, identity, loaded, stored: Mutex::new(stored) })
    }

    pub fn wgpu(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn loaded(&self) -> usize {
        self.loaded
    }

    /// Stores what has been compiled, unless the file holds that already.
    pub fn save(&self) {
        let Some(bytes) = self.cache.get_data() else { return };
        let hash = checksum(&self.identity, &bytes);
        let mut stored = lock(&self.stored);
        if *stored == Some(hash) {
            return;
        }
        match write(&self.path, hash, &bytes) {
            Ok(()) => log::debug!("compiled pipelines: {} bytes to {}", bytes.len(), self.path.display()),
            Err(error) => log::debug!("compiled pipelines {}: {error}", self.path.display()),
        }
        // Written or not: the same bytes are not worth another try.
        *stored = Some(hash);
    }
}

/// What an earlier cache of the same adapter, driver and version of the crate gave. Only [`read`] makes one.
pub(super) struct CacheData {
    bytes: Vec<u8>,
    hash: u64,
}

impl CacheData {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The folder that the variable names, or the user's folder for caches.
fn folder(variable: Option<&OsStr>) -> Option<PathBuf> {
    match variable.filter(|value| !value.is_empty()) {
        Some(value) if value.eq_ignore_ascii_case("off") => None,
        Some(value) => Some(PathBuf::from(value)),
        None => dirs::cache_dir().map(|caches| caches.join("receptive")),
    }
}

fn checksum(identity: &str, bytes: &[u8]) -> u64 {
    Hash::new().text(identity).bytes(bytes).value()
}

/// Reads a file that [`write`] wrote for the same `identity`.
fn read(path: &Path, identity: &str) -> io::Result<CacheData> {
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut bytes = fs::read(path)?;
    let header = bytes.get(..HEADER).and_then(|header| header.strip_prefix(MAGIC));
    let stored = header.and_then(|hash| hash.try_into().ok()).map(u64::from_le_bytes);
    let stored = stored.ok_or_else(|| invalid("not a file of compiled pipelines"))?;
    if bytes.len() > MOST_BYTES {
        return Err(invalid("too large"));
    }
    bytes.drain(..HEADER);
    let hash = checksum(identity, &bytes);
    if hash != stored {
        return Err(invalid("damaged, or of another driver or version"));
    }
    Ok(CacheData { bytes, hash })
}

/// Puts a new file in the place of the old one at once: other programs may be reading that, or writing one of their own.
fn write(path: &Path, hash: u64, bytes: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{number}.tmp", process::id()));
    let temporary = path.with_file_name(name);
    let contents = [MAGIC, &hash.to_le_bytes()[..], bytes].concat();
    let written = fs::write(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("pipelines");
        let data = b"what a driver gave".to_vec();
        assert!(read(&path, "driver 1").is_err());
        write(&path, checksum("driver 1", &data), &data).unwrap();
        assert_eq!(read(&path, "driver 1").unwrap().bytes(), data);
        assert!(read(&path, "driver 2").is_err(), "another driver");

        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path, "driver 1").is_err(), "byte {at} is another");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, "driver 1").is_err(), "cut off at {at}");
        }
        write(&path, checksum("driver 1", b"new"), b"new").unwrap();
        assert_eq!(read(&path, "driver 1").unwrap().bytes(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "temporary files are left");
    }

    #[test]
    fn the_variable_names_a_folder_or_turns_it_off() {
        assert_eq!(folder(Some(OsStr::new("OFF"))), None);
        assert_eq!(folder(Some(OsStr::new("some/where"))), Some(PathBuf::from("some/where")));
        let default = folder(None);
        assert!(default.as_ref().is_none_or(|path| path.is_absolute() && path.ends_with("receptive")), "{default:?}");
        assert_eq!(folder(Some(OsStr::new(""))), default);
    }
}
