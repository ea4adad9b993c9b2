//! Somebody who stores what sources send, and answers for them.

use std::collections::BTreeMap;

use natseq::sequence::{
    ArchiveIndex, Carrier, Ranges, RepairEnd, SEQ_GONE, SEQ_MORE, STAMP_HEADER, SourceName, Stamp,
};

use super::oracle::{Run, Tag};
use super::peers::Body;
use super::world::World;

/// Messages in one answer.
const ANSWER_MESSAGES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Archive {
    index: ArchiveIndex,
    /// Each message with its stamp, by its place.
    messages: Vec<(Vec<u8>, Tag)>,
    highest: BTreeMap<Run, u64>,
}

impl Archive {
    pub(super) const fn new() -> Self {
        Self {
            index: ArchiveIndex::new(1 << 16),
            messages: Vec::new(),
            highest: BTreeMap::new(),
        }
    }

    pub(super) fn store(&mut self, text: &[u8], tag: Tag) {
        let stamp = Stamp::parse(text).unwrap();
        let place = self.messages.len() as u64;
        self.index.insert(&stamp, Carrier::Header, place);
        self.messages.push((text.to_vec(), tag));
        self.highest.insert(tag.run, tag.seq);
    }

    /// Messages and the end of an answer.
    fn answer(&self, run: Run, line: u64, request: &[u8]) -> Vec<Body> {
        let asked = Ranges::parse(request).unwrap();
        let name = SourceName::new(&format!("s{}", run.source)).unwrap();
        let stored = self
            .index
            .find(&name, run.epoch, &asked, ANSWER_MESSAGES_MAX);
        let highest = self.highest.get(&run).copied().unwrap_or_default();
        let stamp = format!("{name}.{}.{highest}", run.epoch);
        let Some(stored) = stored else {
            let end = RepairEnd::read(404, |header| (header == STAMP_HEADER).then_some(&stamp));
            let end = end.unwrap();
            return vec![Body::End { line, end }];
        };
        let found = stored.found.iter().map(|(_, place)| {
            let (stamp, tag) = &self.messages[usize::try_from(*place).unwrap()];
            Body::Repair {
                line,
                stamp: stamp.clone(),
                tag: *tag,
            }
        });
        let end = RepairEnd::read(204, |header| match header {
            STAMP_HEADER => Some(stamp.clone().into_bytes()),
            SEQ_GONE if !stored.gone.is_empty() => Some(stored.gone.to_text()),
            SEQ_MORE if stored.has_more => Some(b"1".to_vec()),
            _ => None,
        });
        let end = end.unwrap();
        found.chain([Body::End { line, end }]).collect()
    }
}

impl World {
    /// Stores a message that is written, unless it is lost on its way there.
    pub(super) fn store(&mut self, index: usize, run: usize, stamp: &[u8], tag: Tag) {
        let Some(share) = self.plan.archived else {
            return;
        };
        if self.jitter.hits(share) {
            self.archive.store(stamp, tag);
            self.sources[index].runs[run].archived.insert(tag.seq);
        }
    }

    /// The archive is asked.
    pub(super) fn ask_archive(
        &mut self,
        source: usize,
        to: usize,
        run: Run,
        line: u64,
        text: &[u8],
    ) {
        for body in self.archive.answer(run, line, text) {
            self.post(source, to, body);
        }
    }

    /// From the archive a receiver may learn how much a source had sent.
    pub(super) fn learn_from_archive(&mut self, index: usize, line: u64) {
        let to = &mut self.receivers[index];
        let run = to
            .asked
            .get(&line)
            .copied()
            .filter(|_| self.plan.archived.is_some());
        let Some(run) = run else { return };
        let stored = self.archive.highest.get(&run).copied().unwrap_or_default();
        let mut lines = to.receiver.statistics();
        let known = lines.find(|line| Run::new(line.source.as_str(), line.epoch) == run);
        if let Some(known) = known.filter(|known| known.highest <= stored) {
            to.oracle.learn(run, known.highest);
        }
    }
}
