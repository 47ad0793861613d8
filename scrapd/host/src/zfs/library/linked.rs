//! A build with the library.

use super::{Ends, POOL_TAG, Place, Result};
use crate::datasets::Cause;
use crate::zfs::call::Tools;
use crate::zfs::flow::{self, Stream};
use crate::zfs::lzc::{Code, Form, Intake, Lzc, LzcError, Outcome, Outgoing, Value};

/// The library, if the kernel answers it.
#[derive(Debug, Clone, Default)]
pub(in crate::zfs) struct Library(Option<Reached>);

#[derive(Debug, Clone)]
struct Reached {
    lzc: Lzc,
    tools: Tools,
}

/// As `zfs send -L -c -e`.
const FORM: Form = Form { large: true, compressed: true, embedded: true, raw: false };

impl Library {
    /// Opens it. Datasets that the kernel does not know are those of another ZFS on this machine.
    pub(in crate::zfs) async fn open(tools: &Tools) -> Self {
        let Some(lzc) = Lzc::open() else { return Self(None) };
        let known = lzc.exists(tools.root.clone()).await;
        if !matches!(known, Ok(true)) {
            return Self(None);
        }
        tracing::info!(root = tools.root, "the pool is reached by libzfs_core");
        Self(Some(Reached { lzc, tools: tools.clone() }))
    }

    pub(in crate::zfs) async fn snapshot(
        &self,
        full: &[String],
        property: &(&str, String),
    ) -> Option<Result<()>> {
        let Reached { lzc, .. } = self.0.as_ref()?;
        let property = (property.0.to_owned(), Value::Text(property.1.clone()));
        Some(lzc.snapshot(full.to_vec(), vec![property]).await.map_err(cause))
    }

    pub(in crate::zfs) async fn destroy(&self, full: &[String]) -> Option<Result<()>> {
        let Reached { lzc, .. } = self.0.as_ref()?;
        Some(lzc.destroy_snapshots(full.to_vec()).await.map_err(cause))
    }

    pub(in crate::zfs) async fn hold(&self, full: &str) -> Option<Result<()>> {
        let Reached { lzc, .. } = self.0.as_ref()?;
        let pair = (full.to_owned(), POOL_TAG.to_owned());
        Some(lzc.hold(vec![pair]).await.map_err(cause))
    }

    pub(in crate::zfs) async fn release(&self, full: &str) -> Option<Result<()>> {
        let Reached { lzc, .. } = self.0.as_ref()?;
        let pair = (full.to_owned(), POOL_TAG.to_owned());
        Some(lzc.release(vec![pair]).await.map_err(cause))
    }

    pub(in crate::zfs) async fn estimate(&self, ends: &Ends) -> Option<Result<u64>> {
        let Reached { lzc, .. } = self.0.as_ref().filter(|_| ends.token.is_none())?;
        Some(lzc.estimate(whole(ends)).await.map_err(cause))
    }

    pub(in crate::zfs) async fn send(&self, ends: &Ends) -> Option<Result<Stream>> {
        let Reached { lzc, tools } = self.0.as_ref()?;
        let outgoing = match &ends.token {
            None => whole(ends),
            Some(token) => match lzc.token(token.clone()).await {
                Ok(token) => token.rest(ends.to.clone(), ends.from.clone()),
                Err(error) => return Some(Err(cause(error))),
            },
        };
        let begun = lzc.send(outgoing).await;
        let limit = tools.limit;
        let stream = |(pipe, outcome)| Stream::outward_of(Box::new(pipe), ended(outcome), limit);
        Some(begun.map(stream).map_err(cause))
    }

    pub(in crate::zfs) async fn receive(&self, place: &Place) -> Option<Result<Stream>> {
        let Reached { lzc, tools } = self.0.as_ref()?;
        let value = |(name, value): &(String, String)| (name.clone(), number_of(value));
        let intake = Intake {
            snapshot: place.to.clone(),
            origin: place.origin.clone(),
            resumable: true,
            raw: false,
            properties: place.properties.iter().map(value).collect(),
        };
        let begun = lzc.receive(intake).await;
        let limit = tools.limit;
        let stream = |(pipe, outcome)| Stream::inward_of(Box::new(pipe), ended(outcome), limit);
        Some(begun.map(stream).map_err(cause))
    }
}

fn ended(outcome: Outcome) -> flow::Outcome {
    Box::pin(async { outcome.end().await.map_err(cause) })
}

fn whole(ends: &Ends) -> Outgoing {
    Outgoing { snapshot: ends.to.clone(), from: ends.from.clone(), form: FORM, at: None }
}

/// Words that the programs turn into numbers. `noauto` is of `canmount` alone.
fn number_of(value: &str) -> Value {
    match value {
        "off" => Value::Number(0),
        "on" => Value::Number(1),
        "noauto" => Value::Number(2),
        text => Value::Text(text.to_owned()),
    }
}

/// What a refusal means.
fn cause(error: LzcError) -> Cause {
    let said = error.to_string();
    match error.code {
        Code::Missing => Cause::Missing,
        Code::Exists => Cause::Exists,
        Code::Busy => Cause::Held(said),
        Code::Denied => Cause::Permission(said),
        Code::NoSpace | Code::OverQuota => Cause::NoSpace,
        // The caller knows the snapshots.
        Code::Modified | Code::NoBase => Cause::Diverged { newest: None, from: None },
        Code::Truncated
        | Code::Damaged
        | Code::UnknownFeature
        | Code::LargeBlocks
        | Code::NoToken
        | Code::ResumeExists => Cause::BadStream(said),
        Code::PoolFails => Cause::Suspended(said),
        Code::OtherLine
        | Code::Stopped
        | Code::BadProperty
        | Code::Unsupported
        | Code::Invalid
        | Code::TooLong
        | Code::NoText
        | Code::Lost
        | Code::OpenZfs { .. }
        | Code::System(_) => Cause::Program { program: "libzfs_core".to_owned(), said },
    }
}
