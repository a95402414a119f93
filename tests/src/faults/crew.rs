//! The programs of a round, and what each said in each of its lives.

use std::path::{Path, PathBuf};

use crate::{Ended, Program, Running};

/// Makes a program anew, for its life of this number.
type Make = Box<dyn Fn(u32) -> Program + Send + Sync>;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Loader,
    Predictor(usize),
    Writer(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loader => formatter.write_str("loader"),
            Self::Predictor(number) => write!(formatter, "predictor-{number}"),
            Self::Writer(number) => write!(formatter, "writer-{number}"),
        }
    }
}

struct Post {
    who: Who,
    make: Make,
    lives: u32,
    running: Option<Running>,
    /// The most memory that one of its lives was seen with.
    peak_kib: u64,
}

impl Post {
    fn look_at_memory(&mut self) {
        let seen = self.running.as_ref().and_then(Running::peak_kib);
        self.peak_kib = self.peak_kib.max(seen.unwrap_or_default());
    }
}

/// All of them. Dropped, they are killed, and what they said is kept.
pub(super) struct Crew {
    posts: Vec<Post>,
    logs: PathBuf,
}

impl Crew {
    /// An empty crew; its programs log to files in this folder.
    pub(super) fn new(logs: PathBuf) -> Self {
        Self { posts: Vec::new(), logs }
    }

    /// Where their logs are kept.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Adds one, which does not run yet.
    pub(super) fn add(&mut self, who: Who, make: impl Fn(u32) -> Program + Send + Sync + 'static) {
        self.posts.push(Post { who, make: Box::new(make), lives: 0, running: None, peak_kib: 0 });
    }

    fn post(&mut self, who: Who) -> &mut Post {
        self.posts.iter_mut().find(|post| post.who == who).expect("it is one of the round")
    }

    /// Whom there is.
    pub(super) fn all(&self) -> Vec<Who> {
        self.posts.iter().map(|post| post.who).collect()
    }

    /// Starts one, for the first time or again.
    pub(super) fn start(&mut self, who: Who) {
        let post = self.post(who);
        post.running = Some((post.make)(post.lives).start());
        post.lives += 1;
    }

    /// The number of its life of now, from 0.
    pub(super) fn life(&mut self, who: Who) -> u32 {
        self.post(who).lives.saturating_sub(1)
    }

    /// The process, where there is one.
    pub(super) fn running(&mut self, who: Who) -> Option<&Running> {
        self.post(who).running.as_ref()
    }

    /// The most memory that each was seen with so far.
    pub(super) fn peaks(&mut self) -> Vec<(Who, u64)> {
        self.posts.iter_mut().for_each(Post::look_at_memory);
        self.posts.iter().map(|post| (post.who, post.peak_kib)).collect()
    }

    /// Kills one.
    pub(super) async fn kill(&mut self, who: Who) {
        self.post(who).look_at_memory();
        if let Some(running) = self.post(who).running.take() {
            let ended = running.kill().await;
            self.keep(who, &ended.stderr);
        }
    }

    /// Waits until one ends that was asked to, or that has.
    pub(super) async fn end(&mut self, who: Who) -> Option<Ended> {
        let ended = self.post(who).running.take()?.end().await;
        self.keep(who, &ended.stderr);
        Some(ended)
    }

    fn keep(&mut self, who: Who, said: &str) {
        let life = self.life(who);
        // A log that cannot be kept must not hide what the round found.
        let _ = std::fs::write(self.logs.join(format!("{who}.{life}.log")), said);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for who in self.all() {
            if let Some(running) = self.post(who).running.take() {
                self.keep(who, &running.log());
            }
        }
    }
}
