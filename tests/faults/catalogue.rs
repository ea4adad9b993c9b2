//! Holds the table of faults to the sources: every test that it names is there.

use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("README.md");

#[test]
fn every_fault_has_a_test_that_exists_or_a_reason() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| ")) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (fault, shown) = (cells.next().unwrap(), cells.next().unwrap());
        if fault == "fault" {
            continue;
        }
        rows += 1;
        if shown.starts_with("not here: ") {
            continue;
        }
        let tests: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            wrong.push(format!("{fault}: neither a test nor a reason"));
        }
        for test in tests {
            let found = test
                .split_once("::")
                .is_some_and(|(file, name)| is_test(file, name));
            if !found {
                wrong.push(format!("{fault}: there is no {test}"));
            }
        }
    }
    assert!(rows > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `file`, seen from the top or from `tests/`, has a test of that name.
fn is_test(file: &str, name: &str) -> bool {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join(file))
        .or_else(|_| fs::read_to_string(top.join("tests").join(file)));
    let Ok(text) = text else {
        return false;
    };
    let definition = format!("fn {name}(");
    let lines: Vec<_> = text.lines().collect();
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = &lines[at.saturating_sub(ATTRIBUTES_MAX)..at];
        line.contains(&definition)
            && attributes
                .iter()
                .any(|line| line.contains("test]") || line.contains("test("))
    })
}

/// Lines above a function among which `#[test]` stands.
const ATTRIBUTES_MAX: usize = 3;
