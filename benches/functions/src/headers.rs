//! Looking a header up in a block that arrived.

use std::hint::black_box;

use natseq::wire::HeaderBlock;

use crate::{Function, REPEATS};

/// Looks for the field at `wanted` among as many fields, or for one that is not there.
pub(crate) fn lookup(fields: usize, wanted: Option<usize>) -> Box<dyn Function> {
    let mut block = String::from("NATS/1.0\r\n");
    for field in 0..fields {
        block.push_str(&format!("Field-{field}: value-{field}\r\n"));
    }
    block.push_str("\r\n");
    Box::new(Lookup {
        block: block.into_bytes(),
        name: format!("Field-{}", wanted.unwrap_or(fields)),
        value: wanted.map(|field| format!("value-{field}").into_bytes()),
    })
}

struct Lookup {
    block: Vec<u8>,
    name: String,
    value: Option<Vec<u8>>,
}

impl Function for Lookup {
    fn bytes(&self) -> usize {
        REPEATS * self.block.len()
    }

    fn run(&mut self) {
        for _ in 0..REPEATS {
            let found = HeaderBlock::new(black_box(&self.block)).first(&self.name);
            assert_eq!(found, self.value.as_deref());
        }
    }
}
