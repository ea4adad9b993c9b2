//! A source's name that outlives the process, in a file.
//!
//! The file keeps two things: the epoch, so that a later run has a higher one although the clock was
//! set back, and where the last run ended if it ended cleanly, so that receivers can count its tail.
//! Numbers are not continued: each run begins at 1.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::error::{Error, ErrorKind};
use crate::sequence::{NUMBER_MAX, Prior, SourceName};

/// A larger file is refused before it is read.
const FILE_BYTES_MAX: u64 = 4_096;

/// A source's name in a file.
///
/// The file is replaced as a whole, by one that was written to the disk before: whenever the
/// machine stops, it holds either what it held or what it was to hold. Two processes must not use
/// one file at the same time; to be safe against that, [claim](super::SequencedPublisherBuilder::claim)
/// the name.
#[derive(Debug, Clone)]
pub struct DurableName {
    path: PathBuf,
    source: SourceName,
    epoch: u64,
    prior: Option<Prior>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    name: String,
    /// The last run.
    epoch: u64,
    /// Its last number, once it has ended.
    last: u64,
    /// Whether it has ended, so that `last` is its last number.
    clean: bool,
}

impl DurableName {
    /// Reads the file; one that is not there names a source that never ran.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DurableName`] when the file cannot be read, is damaged or is of another source.
    pub fn open(path: impl Into<PathBuf>, source: SourceName) -> Result<Self, Error> {
        let path = path.into();
        let content = read(&path).map_err(failed)?;
        let Some(content) = content else {
            return Ok(Self {
                path,
                source,
                epoch: 0,
                prior: None,
            });
        };
        if content.name != source.as_str() {
            let found = format!("the file is of the source {:?}", content.name);
            return Err(failed(io::Error::other(found)));
        }
        if content.epoch > NUMBER_MAX || content.last > NUMBER_MAX {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
        Ok(Self {
            path,
            source,
            epoch: content.epoch,
            prior: content.clean.then_some(Prior {
                epoch: content.epoch,
                lead: content.last,
            }),
        })
    }

    /// The source.
    #[must_use]
    pub const fn source(&self) -> &SourceName {
        &self.source
    }

    /// The last run and its last number, if it ended cleanly.
    #[must_use]
    pub const fn prior(&self) -> Option<Prior> {
        self.prior
    }

    /// The lowest epoch that the next run may have.
    pub(super) const fn epoch_min(&self) -> u64 {
        self.epoch.saturating_add(1)
    }

    /// Notes that a run has begun, before its first message.
    pub(super) fn begin(&mut self, epoch: u64) -> Result<(), Error> {
        self.write(epoch, None)
    }

    /// Notes where a run has ended, unless the next has begun already.
    pub(super) fn end(&mut self, ended: Prior) -> Result<(), Error> {
        if self.epoch != ended.epoch {
            return Ok(());
        }
        self.write(ended.epoch, Some(ended))
    }

    fn write(&mut self, epoch: u64, ended: Option<Prior>) -> Result<(), Error> {
        let content = Content {
            name: self.source.as_str().to_owned(),
            epoch,
            last: ended.map_or(0, |ended| ended.lead),
            clean: ended.is_some(),
        };
        let text = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
        replace(&self.path, &text).map_err(failed)?;
        (self.epoch, self.prior) = (epoch, ended);
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Content>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Puts a file with this text in the place of the one that is there, if there is one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    // The name is on the disk once the folder is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let here = folder.as_os_str().is_empty();
        File::open(if here { Path::new(".") } else { folder })?.sync_all()?;
    }
    Ok(())
}

fn failed(error: io::Error) -> Error {
    Error::with_source(ErrorKind::DurableName, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of this test alone, which is not there.
    fn path(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("natseq-{test}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn name() -> SourceName {
        SourceName::new("pricing-a").unwrap()
    }

    #[test]
    fn a_name_remembers_its_last_run_and_where_that_ended() {
        let path = path("remembers");
        let mut first = DurableName::open(&path, name()).unwrap();
        assert_eq!((first.epoch_min(), first.prior()), (1, None));
        first.begin(70).unwrap();
        let crashed = DurableName::open(&path, name()).unwrap();
        assert_eq!((crashed.epoch_min(), crashed.prior()), (71, None));
        let ended = Prior { epoch: 70, lead: 9 };
        first.end(ended).unwrap();
        let closed = DurableName::open(&path, name()).unwrap();
        assert_eq!((closed.epoch_min(), closed.prior()), (71, Some(ended)));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_source_is_not_used() {
        let path = path("damaged");
        for text in [
            "",
            "{\"name\":\"pricing-a\",\"epoch\":7",
            "{\"name\":\"b\",\"epoch\":7,\"last\":0,\"clean\":false}",
            "{\"name\":\"pricing-a\",\"epoch\":9007199254740992,\"last\":0,\"clean\":false}",
        ] {
            fs::write(&path, text).unwrap();
            let error = DurableName::open(&path, name()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DurableName, "{text}");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_stays_as_it_was() {
        let path = path("folder").join("name.json");
        let mut durable = DurableName::open(&path, name()).unwrap();
        let error = durable.begin(7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DurableName);
        assert_eq!(durable.epoch_min(), 1);
    }
}
