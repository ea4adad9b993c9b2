//! Holds the crate to its own map: who imports whom, which folders there are, what each file starts with.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "test code: a surprise here fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a layer, and what of `crate::` it may name. Nobody imports `cli`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("subject", &[]),
    ("jitter", &[]),
    ("decimal", &[]),
    ("secret", &[]),
    ("wire", &["subject", "decimal"]),
    ("sequence", &["subject", "jitter", "decimal"]),
    ("session", &["wire", "subject", "jitter", "secret"]),
    (
        "client",
        &[
            "session", "sequence", "wire", "subject", "jitter", "decimal",
        ],
    ),
    ("jetstream", &["client", "sequence", "wire", "subject"]),
    ("broker", &["wire", "subject", "jitter", "secret"]),
    (
        "cli",
        &[
            "broker",
            "jetstream",
            "client",
            "session",
            "sequence",
            "wire",
            "subject",
            "jitter",
        ],
    ),
];

/// The folders at the top, beside those that tools make.
const FOLDERS: &[&str] = &["src", "tests", "benches", "examples", "fuzz", ".ci"];
const TOOL_FOLDERS: &[&str] = &["target", ".git"];

/// Texts that name a file and a function in it.
const NAMING: &[&str] = &["comparison.md", "src/cookbook.md"];

/// Functions of examples that show nothing by themselves.
const HELPERS: &[&str] = &[
    "run", "close", "echo", "end", "until", "next", "last", "text", "exchange",
];

/// Files whose format has no comments, or whose text is not ours.
const WITHOUT_PURPOSE: &[&str] = &[
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "Cargo.toml",
    "Cargo.lock",
    "package-lock.json",
    "package.json",
];

/// How the code names a heading of the notes; taken apart, so that this file does not find itself.
const NOTES: &str = concat!("protocol-", "notes, \"");

#[test]
fn layers_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in files()
        .iter()
        .filter(|file| file.starts_with("src") && is_rust(file))
    {
        let Some(layer) = layer(file) else { continue };
        let (_, allowed) = IMPORTS
            .iter()
            .find(|(name, _)| *name == layer)
            .unwrap_or_else(|| panic!("src/{layer} is not in the table of layers"));
        for (line, name) in crate_paths(&read(file)) {
            if name != layer && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}:{line}: {layer} imports {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_path_climbs_out_of_its_layer() {
    let mut wrong = Vec::new();
    for file in files()
        .iter()
        .filter(|file| file.starts_with("src") && is_rust(file))
    {
        // `src/wire/parser.rs` is `crate::wire::parser`, from which the second `super` is the crate.
        let is_folder_root = file.file_name().is_some_and(|name| name == "mod.rs");
        let depth = file.components().count() - 1 - usize::from(is_folder_root);
        let mut depth_here = depth;
        for (number, line) in read(file).lines().enumerate() {
            if line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{') {
                depth_here = depth + 1;
            }
            if !is_comment(line) && line.contains(&"super::".repeat(depth_here.max(1))) {
                wrong.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_designed_folders_exist() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = FOLDERS.contains(&name.as_str()) || TOOL_FOLDERS.contains(&name.as_str());
        if entry.file_type().unwrap().is_dir() && !known {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "folders that no design names: {wrong:?}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let mut wrong = Vec::new();
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let extension = file
            .extension()
            .map_or("", |extension| extension.to_str().unwrap());
        if WITHOUT_PURPOSE.contains(&name) || name.starts_with(".git") {
            continue;
        }
        let bytes = fs::read(root().join(&file)).unwrap();
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let says = match extension {
            "rs" => first.starts_with("//! "),
            "md" => first.starts_with("# "),
            "js" => first.starts_with("// "),
            "toml" | "txt" => first.starts_with("# "),
            "py" => first.starts_with("\"\"\""),
            _ if first.starts_with("#!") => lines.next().is_some_and(|line| line.starts_with("# ")),
            _ => true,
        };
        if !says {
            wrong.push(format!("{}: {first}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_points_outside_the_repository() {
    // Taken apart, so that this file does not find itself.
    let outside = [
        concat!("..", "/shared"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/plan"),
    ];
    let mut wrong = Vec::new();
    for file in files() {
        let Ok(text) = String::from_utf8(fs::read(root().join(&file)).unwrap()) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if outside.iter().any(|path| line.contains(path)) {
                wrong.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_heading_of_the_notes_that_the_code_names_is_there() {
    let notes = read(Path::new("protocol-notes.md"));
    let headings: Vec<&str> = notes
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    let mut wrong = Vec::new();
    let mut named = 0;
    for file in files().iter().filter(|file| is_rust(file)) {
        for (number, line) in read(file).lines().enumerate() {
            let Some((_, rest)) = line.split_once(NOTES) else {
                continue;
            };
            let Some((heading, _)) = rest.split_once('"') else {
                continue;
            };
            named += 1;
            if !headings.contains(&heading) {
                wrong.push(format!("{}:{}: {heading}", file.display(), number + 1));
            }
        }
    }
    assert!(named > 0, "no heading is named: has the form changed?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_that_a_text_names_is_there() {
    let mut wrong = Vec::new();
    for text in NAMING {
        let named = functions_named(&read(Path::new(text)));
        assert!(named.len() > 10, "{text} names {} functions", named.len());
        for (file, function) in named {
            let code = fs::read_to_string(root().join(&file)).unwrap_or_default();
            let before = code.split_once(&format!("fn {function}("));
            // Between a test's attribute and its name there is another attribute at most.
            let is_test = before.is_some_and(|(before, _)| {
                let mut lines = before.lines().rev().take(4);
                lines.any(|line| line.contains("test]") || line.contains("test("))
            });
            if before.is_none() || !(is_test || file.starts_with("examples")) {
                wrong.push(format!("{text}: {file}#{function}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_of_an_example_is_in_the_cookbook() {
    let named = functions_named(&read(Path::new("src/cookbook.md")));
    let mut wrong = Vec::new();
    for file in files()
        .iter()
        .filter(|file| file.parent() == Some(Path::new("examples")))
    {
        let file = file.to_str().unwrap();
        let code = read(Path::new(file));
        // What an example shows is what its `run` calls, or its `main`.
        for line in code.lines().filter(|line| line.starts_with("    ")) {
            let call = line.trim().trim_end_matches([';', '?']);
            let Some((function, _)) = call.split_once('(').filter(|_| call.ends_with(".await"))
            else {
                continue;
            };
            let is_shown = code.contains(&format!("async fn {function}("));
            let is_aid = HELPERS.contains(&function);
            let entry = (file.to_owned(), function.to_owned());
            if is_shown && !is_aid && !named.contains(&entry) {
                wrong.push(format!("{file}#{function}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_a_forbidden_import() {
    let text = "// crate::cli\nuse crate::{\n    wire::{Parser, Step},\n    cli,\n};\nfn f() { crate::session::g() }";
    let names: Vec<_> = crate_paths(text)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["wire", "cli", "session"]);
}

/// What a text names in the form `tests/a.rs#a_fact`: a file and a function.
fn functions_named(text: &str) -> Vec<(String, String)> {
    let is_end = |letter: char| matches!(letter, '(' | '`' | ')' | ' ' | '\n');
    text.match_indices(".rs#")
        .filter_map(|(at, middle)| {
            let file = text[..at].rsplit(is_end).next()?;
            let function = text[at + middle.len()..].split(is_end).next()?;
            Some((format!("{file}.rs"), function.to_owned()))
        })
        .collect()
}

/// The first segment after each `crate::`, with its line; of `crate::{a::b, c}` it is `a` and `c`.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let mut code = String::new();
    for line in text.lines() {
        if !is_comment(line) {
            code.push_str(line);
        }
        code.push('\n');
    }
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // Not the end of a longer name.
        let before = code[..at].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        for name in first_segments(rest) {
            found.push((line, name));
        }
    }
    found
}

fn first_segments(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return identifier(rest).into_iter().collect();
    };
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut is_start = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            letter if is_start && !letter.is_whitespace() => {
                names.extend(identifier(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

/// `wire` for `src/wire/parser.rs`, `jitter` for `src/jitter.rs`; nothing for the two roots.
fn layer(file: &Path) -> Option<String> {
    let name = file.components().nth(1)?.as_os_str().to_str()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// Every file of the project, by its path from the top.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            // Corpora and artifacts hold bytes, not text.
            let skipped = [
                "target",
                ".git",
                "node_modules",
                "__pycache__",
                "corpus",
                "artifacts",
            ];
            if skipped.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(folder.join(name));
            } else if kind.is_file() {
                found.push(folder.join(name));
            }
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
