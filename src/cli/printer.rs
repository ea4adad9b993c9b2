//! What `natseq sub` prints: text for people, or one JSON object for each event.

use std::io::{BufWriter, Stdout, Write};

use crate::client::SequencedMessage;
use crate::sequence::{BareVerdict, Cause, Event, Origin};
use crate::wire::{HeaderBlock, Message};

use super::record::{MessageRecord, Record, Summary, payload, shown};
use super::text::{grouped, range};

/// Writes events to standard output.
pub(super) struct Printer {
    pub(super) out: BufWriter<Stdout>,
    pub(super) is_json: bool,
    pub(super) messages: u64,
    pub(super) messages_max: u64,
}

impl Printer {
    pub(super) const fn is_done(&self) -> bool {
        self.messages >= self.messages_max
    }

    pub(super) const fn left(&self) -> u64 {
        self.messages_max.saturating_sub(self.messages)
    }

    pub(super) fn plain(&mut self, message: &Message) -> std::io::Result<()> {
        let parts = (
            message.subject(),
            message.reply(),
            message.headers(),
            message.payload(),
        );
        self.message(parts, None)
    }

    pub(super) fn verdict(&mut self, subject: &[u8], verdict: BareVerdict) -> std::io::Result<()> {
        match verdict {
            BareVerdict::Ahead {
                number,
                missing_from: from,
            } => {
                let to = number.saturating_sub(1);
                let text = format!("Missing {} before \"{}\"", range(from, to), shown(subject));
                let subject = shown(subject);
                self.say(&Record::Missing { subject, from, to }, &text)
            }
            BareVerdict::Behind { highest, .. } => {
                let subject = shown(subject);
                let text = format!(
                    "Behind {highest}: \"{subject}\" is late, repeated or of a new beginning"
                );
                self.say(&Record::Behind { subject, highest }, &text)
            }
            BareVerdict::Next { .. } | BareVerdict::Unnumbered | BareVerdict::Unchecked => Ok(()),
        }
    }

    pub(super) fn event(&mut self, event: &Event<SequencedMessage>) -> std::io::Result<()> {
        match event {
            Event::Message { message, origin } => self.message(parts_of(message), Some(origin)),
            Event::Unsequenced { message } => self.message(parts_of(message), None),
            Event::Gap {
                source,
                epoch,
                from,
                to,
                cause,
            } => {
                let (source, epoch, from, to) = (source.as_str(), *epoch, *from, *to);
                let text = format!("Missing {} of {source}{}", range(from, to), known(*cause));
                let cause = cause.as_str();
                self.say(
                    &Record::Gap {
                        source,
                        epoch,
                        from,
                        to,
                        cause,
                    },
                    &text,
                )
            }
            Event::Lost {
                source,
                epoch,
                from,
                to,
                reason,
                cause,
            } => {
                let (source, epoch, from, to) = (source.as_str(), *epoch, *from, *to);
                let (numbers, cause_text) = (range(from, to), known(*cause));
                let text = format!("Lost {numbers} of {source}: {reason}{cause_text}");
                let (reason, cause) = (reason.as_str(), cause.as_str());
                self.say(
                    &Record::Lost {
                        source,
                        epoch,
                        from,
                        to,
                        reason,
                        cause,
                    },
                    &text,
                )
            }
            Event::Withdrawn {
                source,
                epoch,
                from,
                to,
            } => {
                let (source, epoch, from, to) = (source.as_str(), *epoch, *from, *to);
                let text = format!("Never sent: {} of {source}", range(from, to));
                self.say(
                    &Record::Withdrawn {
                        source,
                        epoch,
                        from,
                        to,
                    },
                    &text,
                )
            }
            Event::EpochStarted {
                source,
                epoch,
                previous,
                is_tail_known,
            } => {
                let (source, epoch) = (source.as_str(), *epoch);
                let (previous, tail_known) = (*previous, *is_tail_known);
                let text = format!("Heard {source}, epoch {epoch}");
                self.say(
                    &Record::Epoch {
                        source,
                        epoch,
                        previous,
                        tail_known,
                    },
                    &text,
                )
            }
            Event::CoverageChanged {
                source,
                epoch,
                coverage,
            } => {
                let (source, epoch) = (source.as_str(), *epoch);
                let coverage = coverage.as_str();
                let text = format!("Coverage of {source}: {coverage}");
                self.say(
                    &Record::Coverage {
                        source,
                        epoch,
                        coverage,
                    },
                    &text,
                )
            }
            Event::Degraded { lacking, reason } => {
                let lacking = lacking.as_str();
                let text = format!("Without {lacking}: {reason}");
                self.say(&Record::Degraded { lacking, reason }, &text)
            }
            Event::SourceSilent { source, epoch } => {
                let (source, epoch) = (source.as_str(), *epoch);
                self.say(
                    &Record::Silent { source, epoch },
                    &format!("{source} is silent"),
                )
            }
            Event::SourceEnded {
                source,
                epoch,
                last_seq,
            } => {
                let (source, epoch, last) = (source.as_str(), *epoch, *last_seq);
                let text = format!("{source} has ended with number {last}");
                self.say(
                    &Record::Ended {
                        source,
                        epoch,
                        last,
                    },
                    &text,
                )
            }
            Event::Conflict {
                source,
                epoch,
                count,
            } => {
                let (source, epoch, count) = (source.as_str(), *epoch, *count);
                let text =
                    format!("{source}, epoch {epoch}, goes on beside a later run: {count} dropped");
                let record = Record::Conflict {
                    source,
                    epoch,
                    count,
                };
                self.say(&record, &text)
            }
            Event::SourceEvicted { source, epoch } => {
                let (source, epoch) = (source.as_str(), *epoch);
                self.say(
                    &Record::Evicted { source, epoch },
                    &format!("{source} was forgotten"),
                )
            }
        }
    }

    fn message(&mut self, parts: Parts<'_>, origin: Option<&Origin>) -> std::io::Result<()> {
        self.messages = self.messages.saturating_add(1);
        let (subject, reply, headers, body) = parts;
        if self.is_json {
            let (payload, payload_hex) = payload(body);
            return self.json(&Record::Message(MessageRecord {
                subject: shown(subject),
                source: origin.map(|origin| origin.source.as_str()),
                epoch: origin.map(|origin| origin.epoch),
                seq: origin.map(|origin| origin.seq),
                repaired: origin.is_some_and(|origin| origin.is_repaired),
                reply: reply.map(shown),
                payload,
                payload_hex,
            }));
        }
        write!(
            self.out,
            "[#{}] Received on \"{}\"",
            self.messages,
            shown(subject)
        )?;
        if let Some(reply) = reply {
            write!(self.out, " with reply \"{}\"", shown(reply))?;
        }
        if origin.is_some_and(|origin| origin.is_repaired) {
            write!(self.out, " by repair")?;
        }
        writeln!(self.out)?;
        if let Some(block) = headers {
            for (name, value) in block.iter().map_while(Result::ok) {
                writeln!(self.out, "{}: {}", shown(name), shown(value))?;
            }
            writeln!(self.out)?;
        }
        self.out.write_all(body)?;
        writeln!(self.out, "\n")
    }

    pub(super) fn summary(&mut self, summary: Summary) -> std::io::Result<()> {
        if self.is_json {
            self.json(&Record::Summary(summary))?;
            return self.out.flush();
        }
        self.out.flush()?;
        if summary.is_told_by_source {
            for source in &summary.sources {
                writeln!(std::io::stderr(), "{source}")?;
            }
        }
        let Summary {
            messages,
            repaired,
            duplicates,
            lost,
            undecided,
            dropped,
            ..
        } = summary;
        let [messages, repaired, duplicates] = [messages, repaired, duplicates].map(grouped);
        let [lost, undecided, dropped] = [lost, undecided, dropped].map(grouped);
        writeln!(
            std::io::stderr(),
            "{messages} messages, {repaired} repaired, {duplicates} duplicates dropped, {lost} lost, \
             {undecided} undecided, {dropped} dropped here"
        )
    }

    fn say(&mut self, record: &Record<'_>, text: &str) -> std::io::Result<()> {
        if self.is_json {
            self.json(record)
        } else {
            writeln!(self.out, "{text}")
        }
    }

    fn json(&mut self, record: &Record<'_>) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, record)?;
        self.out.write_all(b"\n")
    }
}

/// Subject, reply subject, headers and payload.
type Parts<'a> = (
    &'a [u8],
    Option<&'a [u8]>,
    Option<HeaderBlock<'a>>,
    &'a [u8],
);

/// What made numbers go missing, when that is known.
fn known(cause: Cause) -> String {
    if cause == Cause::Unknown {
        return String::new();
    }
    format!(" ({cause})")
}

fn parts_of(message: &SequencedMessage) -> Parts<'_> {
    (
        message.subject(),
        message.reply(),
        message.headers(),
        message.payload(),
    )
}
