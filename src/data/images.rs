//! Images in MNIST's IDX files, as sequences of pixels.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::sequences::{Examples, Targets};
use super::stream;
use crate::random::Random;

/// Why images could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {what}; get the file again", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Images of one size with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// Pixels of an image.
    pub size: usize,
    /// Of all images, row by row.
    pub pixels: Vec<u8>,
    /// A label for each image.
    pub labels: Vec<u8>,
}

/// The mean and the deviation of MNIST's training pixels, of a range of 0 to 1: the usual normalisation.
const MNIST: (f32, f32) = (0.1307, 0.3081);

impl Images {
    /// Reads `{part}-images-idx3-ubyte` and `{part}-labels-idx1-ubyte` from a folder, as they are or compressed with gzip (`.gz`).
    /// MNIST's parts are `train` and `t10k`.
    ///
    /// # Errors
    /// [`ImageError`], naming the file.
    pub fn read(folder: impl AsRef<Path>, part: &str) -> Result<Self, ImageError> {
        let folder = folder.as_ref();
        let images = Idx::read(folder, &format!("{part}-images-idx3-ubyte"), 3)?;
        let labels = Idx::read(folder, &format!("{part}-labels-idx1-ubyte"), 1)?;
        if images.sizes[0] != labels.sizes[0] {
            let what = format!("{} labels for {} images", labels.sizes[0], images.sizes[0]);
            return Err(ImageError::Format { path: labels.path, what });
        }
        Ok(Self { size: images.sizes[1] * images.sizes[2], pixels: images.bytes, labels: labels.bytes })
    }

    /// The images as sequences of a normalised pixel a position, in an order of pixels if there is one, and the label to tell.
    /// Nothing if there are no images.
    pub fn sequences(&self, order: Option<&[u32]>, per_step: usize) -> Option<Examples> {
        let normalise = |pixel: u8| (f32::from(pixel) / 255.0 - MNIST.0) / MNIST.1;
        let mut values = Vec::with_capacity(self.pixels.len());
        for image in self.pixels.chunks_exact(self.size.max(1)) {
            match order {
                Some(order) => {
                    values.extend(order.iter().filter_map(|&at| image.get(at as usize)).map(|&pixel| normalise(pixel)));
                }
                None => values.extend(image.iter().map(|&pixel| normalise(pixel))),
            }
        }
        let classes = self.labels.iter().map(|&label| u32::from(label)).collect();
        Examples::new(values, self.size, 1, Targets::Classes { classes, each: 1 }, per_step)
    }
}

/// The order of pixels that a seed names, for all images the same.
pub fn pixel_permutation(seed: u64, size: usize) -> Vec<u32> {
    Random::new(seed, stream::PIXELS, 0).permutation(size)
}

/// A file of bytes with its sizes.
struct Idx {
    path: PathBuf,
    sizes: Vec<usize>,
    bytes: Vec<u8>,
}

impl Idx {
    fn read(folder: &Path, name: &str, dimensions: u8) -> Result<Self, ImageError> {
        let (plain, compressed) = (folder.join(name), folder.join(format!("{name}.gz")));
        let mut bytes = Vec::new();
        let read = |path: &Path, bytes: &mut Vec<u8>, gz: bool| {
            let file = File::open(path)?;
            match gz {
                true => MultiGzDecoder::new(file).read_to_end(bytes),
                false => std::io::BufReader::new(file).read_to_end(bytes),
            }
        };
        let (path, result) = match plain.exists() {
            true => (plain.clone(), read(&plain, &mut bytes, false)),
            false => (compressed.clone(), read(&compressed, &mut bytes, true)),
        };
        match result {
            Ok(_) => Self::parse(path, bytes, dimensions),
            Err(source) if source.kind() == ErrorKind::NotFound => Err(ImageError::Read { path: plain, source }),
            Err(source) => Err(ImageError::Read { path, source }),
        }
    }

    /// Big endian: a magic number that ends with the number of dimensions, their sizes, the bytes.
    fn parse(path: PathBuf, bytes: Vec<u8>, dimensions: u8) -> Result<Self, ImageError> {
        let wrong = |what: String| ImageError::Format { path: path.clone(), what };
        let word = |at: usize| {
            bytes.get(at * 4..at * 4 + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
        };
        let magic = 0x800 + u32::from(dimensions);
        if word(0) != Some(magic) {
            return Err(wrong(format!(
                "not an IDX file of bytes in {dimensions} dimensions (it must start with {magic:#010x})"
            )));
        }
        let sizes: Option<Vec<usize>> =
            (1..=usize::from(dimensions)).map(|at| word(at).map(|size| size as usize)).collect();
        let sizes = sizes.ok_or_else(|| wrong("it ends within its sizes".into()))?;
        let start = 4 * (1 + sizes.len());
        let expected = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let there = bytes.len() - start;
        if expected != Some(there) {
            return Err(wrong(format!("{there} bytes after its sizes {sizes:?}")));
        }
        Ok(Self { bytes: bytes[start..].to_vec(), path, sizes })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::data::{SequenceBatch, Sequences};

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let words = [0x800 + sizes.len() as u32].into_iter().chain(sizes.iter().copied());
        words.flat_map(u32::to_be_bytes).chain(bytes.iter().copied()).collect()
    }

    #[test]
    fn plain_and_compressed_files_become_sequences() {
        let folder = tempfile::tempdir().unwrap();
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(&idx(&[2, 2, 2], &[0, 1, 2, 3, 255, 5, 6, 7])).unwrap();
        std::fs::write(folder.path().join("train-images-idx3-ubyte.gz"), gz.finish().unwrap()).unwrap();
        std::fs::write(folder.path().join("train-labels-idx1-ubyte"), idx(&[2], &[4, 9])).unwrap();
        let images = Images::read(folder.path(), "train").unwrap();
        assert_eq!((images.size, images.labels.as_slice()), (4, &[4, 9][..]));
        let mut batch = SequenceBatch::default();
        images.sequences(Some(&[3, 2, 1, 0]), 1).unwrap().fill(&[1], &mut batch);
        assert_eq!((batch.time, batch.target_ids.as_slice()), (4, &[9][..]));
        assert_eq!(batch.values[3], (1.0 - 0.1307) / 0.3081);
        assert_eq!(batch.values[0], (7.0 / 255.0 - 0.1307) / 0.3081);
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let labels = folder.path().join("t10k-labels-idx1-ubyte");
        let expect = |word: &str| {
            let error = Images::read(folder.path(), "t10k").unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        expect("t10k-images-idx3-ubyte");
        std::fs::write(folder.path().join("t10k-images-idx3-ubyte"), idx(&[1, 2, 2], &[0; 4])).unwrap();
        expect("t10k-labels-idx1-ubyte");
        for (bytes, word) in [
            (idx(&[2], &[1, 2]), "2 labels for 1 images"),
            (idx(&[3], &[1, 2]), "2 bytes after its sizes [3]"),
            (idx(&[1, 1, 1], &[1]), "not an IDX file"),
            (vec![0, 0, 8, 1, 0], "ends within its sizes"),
            (vec![], "not an IDX file"),
        ] {
            std::fs::write(&labels, bytes).unwrap();
            expect(word);
        }
    }

    #[test]
    fn a_seed_names_an_order_of_pixels() {
        let mut order = pixel_permutation(1, 784);
        assert_eq!(order, pixel_permutation(1, 784));
        assert_ne!(order, pixel_permutation(2, 784));
        order.sort_unstable();
        assert_eq!(order, (0..784).collect::<Vec<u32>>());
    }
}
