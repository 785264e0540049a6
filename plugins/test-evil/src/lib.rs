//! A plugin that does what plugins must not, for tests of the host: the image's first two bytes say in which call, and what.
//!
//! Native tests use it too (what a sandbox must catch aside: endless loops, traps and hunger).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{string::String, vec, vec::Vec};

use stampede_plugin::{
    Change, Confidence, Description, Extent, Fail, FileId, Format, Halt, Job, JobStep, OpenRequest, Opened,
    Outcome, Pages, PagesExt as _, Patch, Place, Plan, Range, Report, Span, Step, Token, View,
};

/// In which call: the image's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the calls' names")]
#[repr(u8)]
pub enum At {
    Open = 1,
    Recover,
    Resolve,
    PlanWrite,
    Done,
    Released,
    JobStart,
    JobStep,
    Probe,
}

/// What: the image's second byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sin {
    /// It never returns.
    Loop = 1,
    /// It panics.
    Panic,
    /// It takes memory until there is none.
    Hunger,
    /// It asks for pages for ever.
    NeedForEver,
    /// It asks for what is outside the file.
    NeedOutside,
    /// It answers with what is beyond the file.
    Beyond,
    /// It would have guest data written over metadata.
    OverMetadata,
    /// Its answer has no end.
    Giant,
    /// It calls itself without end.
    Recursion,
}

/// The disk's size, and where the file's metadata ends.
const DISK: u64 = 1 << 20;
const METADATA: u64 = 4096;

/// The plugin.
#[derive(Debug, Default)]
pub struct Evil {
    at: u8,
    sin: u8,
    tokens: Token,
}

impl Evil {
    /// What every call does that has nothing to answer.
    fn tempt(&self, at: At) {
        if self.at != at as u8 {
            return;
        }
        match self.sin {
            sin if sin == Sin::Loop as u8 => loop {
                core::hint::spin_loop();
            },
            sin if sin == Sin::Hunger as u8 => {
                let mut held: Vec<Vec<u8>> = Vec::new();
                loop {
                    held.push(vec![1; 1 << 20]);
                    core::hint::black_box(&held);
                }
            }
            sin if sin == Sin::Recursion as u8 => {
                core::hint::black_box(deep(core::hint::black_box(1)));
            }
            #[allow(clippy::panic, reason = "that is what it is for")]
            sin if sin == Sin::Panic as u8 => panic!("on purpose"),
            _ => {}
        }
    }

    /// What calls do that may ask for pages.
    fn ask(&self, at: At, pages: &dyn Pages) -> Outcome<()> {
        self.tempt(at);
        let sins = |sin: Sin| self.at == at as u8 && self.sin == sin as u8;
        if sins(Sin::NeedForEver) {
            // Always another byte, so that there is news: a file of 1 MiB has enough of them.
            return Err(Halt::Need(vec![Span::main(0, 8)]));
        }
        if sins(Sin::NeedOutside) {
            return Err(Halt::Need(vec![Span::main(pages.file_length(FileId::MAIN), 8)]));
        }
        Ok(())
    }

    fn sins(&self, at: At, sin: Sin) -> bool {
        self.at == at as u8 && self.sin == sin as u8
    }

    fn plan(&mut self, at: At, ranges: &[Range], change: Change) -> Plan {
        self.tokens += 1;
        let mut plan = Plan { token: self.tokens, ..Plan::default() };
        for &range in ranges {
            let Range { offset: guest, length } = range;
            let offset = if self.sins(at, Sin::Beyond) {
                u64::MAX / 2
            } else if self.sins(at, Sin::OverMetadata) {
                guest
            } else {
                guest + METADATA
            };
            plan.now.push(match change {
                Change::Data => Step::Put { guest, length, file: FileId::MAIN, offset },
                Change::Zero | Change::Unmap => Step::Fill { file: FileId::MAIN, offset, length },
            });
            plan.map.push(extent(range));
        }
        if self.sins(at, Sin::Giant) {
            let patch = Patch {
                id: 1,
                file: FileId::MAIN,
                offset: 0,
                bytes: vec![0; 1 << 20],
                after: Vec::new(),
                after_data: false,
                lazy: false,
            };
            plan.meta = (0..40).map(|id| Patch { id, ..patch.clone() }).collect();
        }
        plan
    }
}

fn deep(depth: u64) -> u64 {
    if core::hint::black_box(depth) == 0 { 0 } else { deep(depth + 1) + core::hint::black_box(depth) }
}

fn extent(range: Range) -> Extent {
    let offset = range.offset + METADATA;
    Extent { range, place: Place::Data { file: FileId::MAIN, offset, in_place: false } }
}

impl Format for Evil {
    fn describe(&self) -> Description {
        Description {
            name: String::from("evil"),
            version: String::from("1"),
            extensions: Vec::new(),
            writable: true,
            parents: false,
            snapshots: false,
            options: Vec::new(),
        }
    }

    fn probe(&self, head: &[u8], _tail: &[u8], _length: u64) -> Confidence {
        let told = Self {
            at: head.first().copied().unwrap_or(0),
            sin: head.get(1).copied().unwrap_or(0),
            tokens: 0,
        };
        told.tempt(At::Probe);
        Confidence::Maybe
    }

    fn open(&mut self, pages: &mut dyn Pages, _request: &OpenRequest) -> Outcome<Opened> {
        let told = pages.bytes(Span::main(0, 2))?;
        (self.at, self.sin) = (told[0], told[1]);
        self.ask(At::Open, pages)?;
        let beyond = self.sins(At::Open, Sin::Beyond);
        let warnings =
            if self.sins(At::Open, Sin::Giant) { vec![String::from("x"); 70_000] } else { Vec::new() };
        Ok(Opened {
            virtual_size: DISK,
            block_size: 512,
            allocation_unit: 4096,
            unmap_unit: 0,
            files: Vec::new(),
            parent: None,
            identity: None,
            metadata: vec![stampede_plugin::MetadataRange {
                file: FileId::MAIN,
                offset: if beyond { u64::MAX - 4096 } else { 0 },
                length: METADATA,
            }],
            needs_recovery: self.at == At::Recover as u8,
            warnings,
        })
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        self.ask(At::Recover, pages)?;
        Ok(self.plan(At::Recover, &[Range { offset: 0, length: 512 }], Change::Zero))
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        _view: View,
        range: Range,
        _extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        self.ask(At::Resolve, pages)?;
        if self.sins(At::Resolve, Sin::Giant) {
            return Ok(vec![extent(range); 70_000]);
        }
        let mut found = extent(range);
        if let Place::Data { offset, in_place, .. } = &mut found.place {
            if self.sins(At::Resolve, Sin::Beyond) {
                *offset = u64::MAX / 2;
            }
            if self.sins(At::Resolve, Sin::OverMetadata) {
                (*offset, *in_place) = (0, true);
            }
        }
        Ok(vec![found])
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        self.ask(At::PlanWrite, pages)?;
        Ok(self.plan(At::PlanWrite, ranges, change))
    }

    fn done(&mut self, _token: Token) {
        self.tempt(At::Done);
    }

    fn released(&mut self, _token: Token) {
        self.tempt(At::Released);
    }

    fn job_start(&mut self, _job: Job) -> Result<(), Fail> {
        self.tempt(At::JobStart);
        Ok(())
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        self.ask(At::JobStep, pages)?;
        if self.sins(At::JobStep, Sin::Giant) {
            let errors = vec![String::from("x"); 70_000];
            return Ok(JobStep::Done(Report { errors, ..Report::default() }));
        }
        if self.sins(At::JobStep, Sin::Beyond) || self.sins(At::JobStep, Sin::OverMetadata) {
            return Ok(JobStep::Plan(self.plan(
                At::JobStep,
                &[Range { offset: 0, length: 512 }],
                Change::Zero,
            )));
        }
        Ok(JobStep::Done(Report::default()))
    }
}

#[cfg(target_family = "wasm")]
stampede_guest::export_format!(Evil);
