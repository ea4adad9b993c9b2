//! Programs that a test runs beside itself: their lines as they come, their exit, and never one left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What `natseq sub` says on standard error once the server knows its subscriptions.
pub(crate) const READY: &str = "Subscribed to";

/// A running program whose standard output and standard error are collected line by line; killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    what: String,
    output: Lines,
    errors: Lines,
}

impl Program {
    /// Starts `command`; standard input is closed unless `input` has something to say.
    pub(crate) fn start(command: &mut Command, input: Option<&[u8]>) -> Self {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let output = Lines::collect(child.stdout.take().unwrap());
        let errors = Lines::collect(child.stderr.take().unwrap());
        if let (Some(input), Some(mut stdin)) = (input.map(<[u8]>::to_vec), child.stdin.take()) {
            thread::spawn(move || stdin.write_all(&input));
        }
        Self {
            child,
            what,
            output,
            errors,
        }
    }

    /// Waits for a line on standard output that contains `text`, and returns it.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.output
            .wait_for(text)
            .unwrap_or_else(|| self.give_up(text))
    }

    /// Waits for a line on standard error that contains `text`, and returns it.
    pub(crate) fn wait_for_error(&self, text: &str) -> String {
        self.errors
            .wait_for(text)
            .unwrap_or_else(|| self.give_up(text))
    }

    /// Waits for the end, within `patience`, and returns the exit status and all of standard output and error.
    pub(crate) fn finish(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.give_up("its end");
            }
            thread::sleep(super::POLL);
        };
        Finished {
            status,
            output: self.output.all(),
            errors: self.errors.all(),
        }
    }

    /// Waits for the end and requires exit code 0; returns the lines of standard output.
    pub(crate) fn succeed(self) -> Vec<String> {
        let what = self.what.clone();
        let finished = self.finish(super::PATIENCE * 2);
        assert!(
            finished.status.success(),
            "{what}: {}\n{}\n{}",
            finished.status,
            finished.output.join("\n"),
            finished.errors.join("\n")
        );
        finished.output
    }

    fn give_up(&self, text: &str) -> ! {
        panic!(
            "{}: waited for {text}; output so far:\n{}\nerrors so far:\n{}",
            self.what,
            self.output.seen().join("\n"),
            self.errors.seen().join("\n")
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output, by lines.
    pub(crate) output: Vec<String>,
    /// Standard error, by lines.
    pub(crate) errors: Vec<String>,
}

/// Lines read by a thread of their own.
#[derive(Debug, Clone)]
struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    is_over: bool,
}

impl Lines {
    fn collect(stream: impl Read + Send + 'static) -> Self {
        let shared = Self(Arc::new((Mutex::new(Collected::default()), Condvar::new())));
        let ours = shared.clone();
        thread::spawn(move || {
            let (state, news) = &*ours.0;
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\r')
                    .to_owned();
                state.lock().unwrap().lines.push(text);
                news.notify_all();
            }
            state.lock().unwrap().is_over = true;
            news.notify_all();
        });
        shared
    }

    fn wait_for(&self, text: &str) -> Option<String> {
        let (state, news) = &*self.0;
        let mut looked = 0;
        let found = |collected: &mut Collected| {
            let fresh = &collected.lines[looked..];
            let line = fresh.iter().find(|line| line.contains(text)).cloned();
            looked = collected.lines.len();
            (line, collected.is_over)
        };
        let mut found = found;
        let deadline = Instant::now() + super::PATIENCE;
        let mut collected = state.lock().unwrap();
        loop {
            match found(&mut collected) {
                (Some(line), _) => return Some(line),
                (None, true) => return None,
                (None, false) => {}
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            collected = news.wait_timeout(collected, left).unwrap().0;
        }
    }

    /// Every line, once the stream has ended.
    fn all(&self) -> Vec<String> {
        let (state, news) = &*self.0;
        let patience = super::PATIENCE;
        let guard = state.lock().unwrap();
        news.wait_timeout_while(guard, patience, |collected| !collected.is_over)
            .unwrap()
            .0
            .lines
            .clone()
    }

    fn seen(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }
}
