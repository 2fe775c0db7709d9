//! The log of the pages that we wrote to, which the front end reads while it copies the guest somewhere else.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use vm_memory::bitmap::{Bitmap, NewBitmap, RefSlice, WithBitmapSlice};
use vm_memory::{MmapRegion, VolatileMemory};

/// Bytes of the guest for each bit of the log, as the protocol has it.
pub const PAGE_SIZE: u64 = 4096;

/// One bit for each page of the guest, in memory that the front end gave.
pub struct Log {
    bits: MmapRegion,
}

impl Log {
    pub(crate) fn new(bits: MmapRegion) -> Self {
        Self { bits }
    }

    /// Marks the pages of a range of the guest's memory; those for which the log has no bit are not marked.
    fn mark(&self, start: u64, len: u64) {
        let Some(last) = len.checked_sub(1).and_then(|len| start.checked_add(len)) else {
            return;
        };
        for page in start / PAGE_SIZE..=last / PAGE_SIZE {
            if !self.mark_page(page) {
                return;
            }
        }
    }

    fn mark_page(&self, page: u64) -> bool {
        self.byte(page).is_some_and(|byte| {
            byte.fetch_or(1 << (page % 8), Ordering::Relaxed);
            true
        })
    }

    fn is_marked(&self, page: u64) -> bool {
        self.byte(page)
            .is_some_and(|byte| byte.load(Ordering::Relaxed) & (1 << (page % 8)) != 0)
    }

    fn byte(&self, page: u64) -> Option<&AtomicU8> {
        let offset = usize::try_from(page / 8).ok()?;
        self.bits.get_atomic_ref::<AtomicU8>(offset).ok()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// What a region of the guest's memory knows of the log.
///
/// While nothing is logged, a write costs one load more.
#[derive(Debug, Default)]
pub struct Dirty {
    is_active: AtomicBool,
    target: RwLock<Option<Target>>,
}

#[derive(Debug)]
struct Target {
    log: Arc<Log>,
    /// Where in the guest the region starts.
    start: u64,
}

impl Dirty {
    /// Logs from now on what is written to the region that starts at `start`, or nothing.
    pub(crate) fn set_log(&self, start: u64, log: Option<&Arc<Log>>) {
        let mut target = self.target.write().unwrap_or_else(PoisonError::into_inner);
        *target = log.map(|log| Target {
            log: Arc::clone(log),
            start,
        });
        self.is_active.store(log.is_some(), Ordering::Release);
    }
}

impl Bitmap for Dirty {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if !self.is_active.load(Ordering::Acquire) {
            return;
        }
        let target = self.target.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &*target {
            let start = target.start.saturating_add(offset as u64);
            target.log.mark(start, len as u64);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let target = self.target.read().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().is_some_and(|target| {
            let address = target.start.saturating_add(offset as u64);
            target.log.is_marked(address / PAGE_SIZE)
        })
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

impl<'a> WithBitmapSlice<'a> for Dirty {
    type S = RefSlice<'a, Self>;
}

impl NewBitmap for Dirty {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}
