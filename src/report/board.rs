//! Event files that TensorBoard reads: a figure a step, under the figure's name.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use protobuf::Message;
use tensorboard_proto::event::Event;
use tensorboard_proto::summary::{Summary, Summary_Value};

use crate::{Error, Result};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An event file, written event by event.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in `folder`, whose name holds the time.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let seconds = now().as_secs();
        let path = (0..)
            .map(|number| folder.join(format!("events.out.tfevents.{seconds:010}.scanrnn.{number}")))
            .find(|path| !path.exists())
            .unwrap_or_else(|| folder.join("events.out.tfevents"));
        let file = File::create_new(&path).map_err(|source| Error::writing(path.clone(), source))?;
        let mut events = EventFile { path, file };
        let mut version = Event::new();
        version.set_file_version("brain.Event:2".into());
        events.push(version)?;
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds figures by their names.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be written.
    pub fn figures(&mut self, step: usize, figures: &[(&str, f64)]) -> Result<()> {
        let value = |&(name, figure): &(&str, f64)| {
            let mut value = Summary_Value::new();
            value.set_tag(name.into());
            value.set_simple_value(figure as f32);
            value
        };
        let mut summary = Summary::new();
        summary.set_value(figures.iter().map(value).collect());
        let mut event = Event::new();
        event.set_step(step as i64);
        event.set_summary(summary);
        self.push(event)
    }

    fn push(&mut self, mut event: Event) -> Result<()> {
        event.set_wall_time(now().as_secs_f64());
        let written = event.write_to_bytes().map_err(std::io::Error::other).and_then(|bytes| self.file.write_all(&record(&bytes)));
        written.map_err(|source| Error::writing(self.path.clone(), source))
    }
}

/// A TFRecord: length, its checksum, the bytes, their checksum.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked_checksum(&length), bytes, &masked_checksum(bytes)].concat()
}

/// CRC-32C, rotated and shifted so that a checksum of checksums stays one (TensorFlow, "TFRecord and tf.train.Example").
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut events = EventFile::create(folder.path()).expect("created");
        events.figures(3, &[("mse/valid", 0.25), ("rate", 1e-3)]).expect("written");
        EventFile::create(folder.path()).expect("another beside it");
        let bytes = std::fs::read(&events.path).expect("read");
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            assert_eq!(after[..4], masked_checksum(length));
            let n = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
            let body = &after[4..4 + n];
            assert_eq!(after[4 + n..8 + n], masked_checksum(body));
            found.push(Event::parse_from_bytes(body).expect("an event"));
            rest = &after[8 + n..];
        }
        assert_eq!(found[0].get_file_version(), "brain.Event:2");
        assert_eq!(found[1].get_step(), 3);
        let values: Vec<_> = found[1].get_summary().get_value().iter().map(|value| (value.get_tag(), value.get_simple_value())).collect();
        assert_eq!(values, [("mse/valid", 0.25), ("rate", 1e-3)]);
    }

    /// The checksum of the nine digits is that of the CRC catalogue; TensorFlow's mask of it was worked out by hand.
    #[test]
    fn checksums_are_masked_as_tensorflow_does() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(u32::from_le_bytes(masked_checksum(b"123456789")), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }
}
