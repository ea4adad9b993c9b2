//! Matching subjects against filters, and telling whether a text is a subject.

use std::hint::black_box;

use natseq::subject::{Filter, SubjectRef};

use crate::{Function, REPEATS};

/// Matches `subject`, which must have this outcome.
pub(crate) fn matching(filter: &str, subject: &'static str, expected: bool) -> Box<dyn Function> {
    Box::new(Matching {
        filter: Filter::new(filter).expect("a filter"),
        subject,
        expected,
    })
}

struct Matching {
    filter: Filter,
    subject: &'static str,
    expected: bool,
}

impl Function for Matching {
    fn bytes(&self) -> usize {
        REPEATS * self.subject.len()
    }

    fn run(&mut self) {
        for _ in 0..REPEATS {
            let is_match = self.filter.matches(black_box(self.subject).as_bytes());
            assert_eq!(is_match, self.expected);
        }
    }
}

/// Takes `subject`, as every publish with a text does.
pub(crate) fn validity(subject: &'static str) -> Box<dyn Function> {
    Box::new(Validity { subject })
}

struct Validity {
    subject: &'static str,
}

impl Function for Validity {
    fn bytes(&self) -> usize {
        REPEATS * self.subject.len()
    }

    fn run(&mut self) {
        for _ in 0..REPEATS {
            assert!(black_box(SubjectRef::new(black_box(self.subject))).is_ok());
        }
    }
}
