//! The images of a test's machines, each built or found once.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};

use hotbed_image::cache::Lease;
use hotbed_image::{Cache, DebianSpec, Image, Progress, Spec};

use crate::call::now;
use crate::config::{ImageKind, ImageMachine};
use crate::turn::Turns;
use crate::{Call, Error};

/// The most messages of a build that wait to be told.
const NEWS_MAX: usize = 1024;

/// The images of a test's machines.
#[derive(Debug)]
pub(crate) struct Images {
    cache: Option<PathBuf>,
    /// A tree where images and snapshots are looked for, too.
    tree: Option<PathBuf>,
    /// Held as long as a machine may boot from them.
    built: Turns<Vec<(Spec, Image, Lease)>>,
}

/// What a build says from its own thread.
enum News {
    Step(String),
    Line(String),
    Done(Box<Result<(Image, Lease), hotbed_image::Error>>),
}

impl Images {
    /// Images in the cache at `cache`, or in the user's, and in the tree.
    pub(crate) fn new(cache: Option<PathBuf>, tree: Option<PathBuf>) -> Self {
        Self {
            cache,
            tree,
            built: Turns::new(Vec::new()),
        }
    }

    /// Where the cache is, when it can be used.
    pub(crate) fn cache_root(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// The cache.
    pub(crate) fn cache(&self) -> Result<Cache, hotbed_image::Error> {
        let cache = self.cache.as_ref().map_or_else(Cache::open, Cache::at)?;
        match &self.tree {
            Some(tree) => cache.with_tree(tree),
            None => Ok(cache),
        }
    }

    /// Builds or finds an image. When the call ends before, the build goes on in its thread, for the next one who asks.
    pub(crate) fn get(
        &self,
        machine: &str,
        spec: &Spec,
        progress: &dyn Progress,
        call: &Call<'_>,
    ) -> Result<Image, Error> {
        let doing = || format!("building the image of {machine}");
        let mut built = self.built.take(call, &doing)?;
        if let Some((_, image, _)) = built.iter().find(|(known, ..)| known == spec) {
            return Ok(image.clone());
        }
        let failed = Error::image(machine);
        let cache = self.cache().map_err(&failed)?;
        let (news, heard) = sync_channel(NEWS_MAX);
        let wanted = spec.clone();
        let build = move || {
            let progress = Reporter(news);
            let result = hotbed_image::obtain(&cache, &wanted, &progress);
            // One who does not wait any more does not hear.
            let _ = progress.0.send(News::Done(Box::new(result)));
        };
        std::thread::Builder::new()
            .name("image".to_owned())
            .spawn(build)
            .map_err(Error::host("cannot start a thread"))?;
        loop {
            let left = call.slice(&doing)?.saturating_duration_since(now());
            match heard.recv_timeout(left) {
                Ok(News::Step(message)) => progress.step(&message),
                Ok(News::Line(text)) => progress.line(&text),
                Ok(News::Done(result)) => {
                    let (image, lease) = result.map_err(&failed)?;
                    built.push((spec.clone(), image.clone(), lease));
                    return Ok(image);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Machine(format!(
                        "the build of {machine}'s image broke off"
                    )));
                }
            }
        }
    }
}

/// Hands on what a build says.
struct Reporter(SyncSender<News>);

impl Progress for Reporter {
    fn step(&self, message: &str) {
        let _ = self.0.send(News::Step(message.to_owned()));
    }

    fn line(&self, text: &str) {
        let _ = self.0.send(News::Line(text.to_owned()));
    }
}

impl ImageMachine {
    /// What the image crate builds for the machine.
    #[must_use]
    pub fn spec(&self) -> Spec {
        match self.image {
            ImageKind::Micro => Spec::Micro,
            ImageKind::Debian => Spec::Debian(DebianSpec {
                packages: self.packages.clone(),
                files: self.files.clone(),
                run: self.run.clone(),
            }),
        }
    }
}
