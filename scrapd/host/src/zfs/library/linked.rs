//! A build with the library.

use tokio::time::timeout;

use super::{Ends, POOL_TAG, Place, Result};
use crate::datasets::Cause;
use crate::zfs::call::Tools;
use crate::zfs::flow::{self, Stream};
use crate::zfs::lzc::{self, Code, Form, Intake, Lzc, LzcError, Outcome, Outgoing, Value};

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
        let reached = self.0.as_ref()?;
        let property = (property.0.to_owned(), Value::Text(property.1.clone()));
        let call = || reached.lzc.snapshot(full.to_vec(), vec![property.clone()]);
        Some(reached.patiently(Work::Other, full, call).await)
    }

    pub(in crate::zfs) async fn destroy(&self, full: &[String]) -> Option<Result<()>> {
        let reached = self.0.as_ref()?;
        let call = || reached.lzc.destroy_snapshots(full.to_vec());
        Some(reached.patiently(Work::Destroy, full, call).await)
    }

    pub(in crate::zfs) async fn hold(&self, full: &str) -> Option<Result<()>> {
        let reached = self.0.as_ref()?;
        let pair = (full.to_owned(), POOL_TAG.to_owned());
        let call = || reached.lzc.hold(vec![pair.clone()]);
        Some(reached.patiently(Work::Other, &[], call).await)
    }

    pub(in crate::zfs) async fn release(&self, full: &str) -> Option<Result<()>> {
        let reached = self.0.as_ref()?;
        let pair = (full.to_owned(), POOL_TAG.to_owned());
        let call = || reached.lzc.release(vec![pair.clone()]);
        Some(reached.patiently(Work::Other, &[], call).await)
    }

    pub(in crate::zfs) async fn bookmark(&self, full: &str, bookmark: &str) -> Option<Result<()>> {
        let reached = self.0.as_ref()?;
        let pair = (bookmark.to_owned(), full.to_owned());
        let call = || reached.lzc.bookmark(vec![pair.clone()]);
        Some(reached.patiently(Work::Other, &[], call).await)
    }

    pub(in crate::zfs) async fn destroy_bookmark(&self, bookmark: &str) -> Option<Result<()>> {
        let reached = self.0.as_ref()?;
        let call = || reached.lzc.destroy_bookmarks(vec![bookmark.to_owned()]);
        Some(reached.patiently(Work::Other, &[], call).await)
    }

    pub(in crate::zfs) async fn estimate(&self, ends: &Ends) -> Option<Result<u64>> {
        let reached = self.0.as_ref().filter(|_| ends.token.is_none())?;
        let call = || reached.lzc.estimate(whole(ends));
        Some(reached.patiently(Work::Other, &[], call).await)
    }

    pub(in crate::zfs) async fn send(&self, ends: &Ends) -> Option<Result<Stream>> {
        let reached = self.0.as_ref()?;
        Some(reached.begin_send(ends).await)
    }

    pub(in crate::zfs) async fn receive(&self, place: &Place) -> Option<Result<Stream>> {
        let reached = self.0.as_ref()?;
        Some(reached.begin_receive(place).await)
    }
}

impl Reached {
    /// Asks the library, within the limit of a command, and again for a while if what is asked for is busy.
    async fn patiently<T, F>(
        &self,
        work: Work,
        full: &[String],
        call: impl Fn() -> F + Send + Sync,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = lzc::Result<T>> + Send,
    {
        let limit = self.tools.limit;
        self.tools
            .patiently(|| async {
                match timeout(limit, call()).await {
                    Ok(Ok(done)) => Ok(done),
                    Ok(Err(error)) => Err(self.cause(work, full, &error).await),
                    Err(_) => Err(Cause::Hanging {
                        program: "libzfs_core".to_owned(),
                        seconds: limit.as_secs(),
                    }),
                }
            })
            .await
    }

    async fn begin_send(&self, ends: &Ends) -> Result<Stream> {
        let outgoing = match &ends.token {
            None => whole(ends),
            Some(token) => {
                let call = || self.lzc.token(token.clone());
                let token = self.patiently(Work::Other, &[], call).await?;
                token.rest(ends.to.clone(), ends.from.clone())
            }
        };
        match self.lzc.send(outgoing).await {
            Ok((pipe, outcome)) => {
                let ended = self.clone().ended(outcome);
                Ok(Stream::outward_of(Box::new(pipe), ended, self.tools.limit))
            }
            Err(error) => Err(self.cause(Work::Other, &[], &error).await),
        }
    }

    async fn begin_receive(&self, place: &Place) -> Result<Stream> {
        let value = |(name, value): &(String, String)| (name.clone(), value_of(name, value));
        let intake = Intake {
            snapshot: place.to.clone(),
            origin: place.origin.clone(),
            resumable: true,
            raw: false,
            properties: place.properties.iter().map(value).collect(),
        };
        match self.lzc.receive(intake).await {
            Ok((pipe, outcome)) => {
                let ended = self.clone().ended(outcome);
                Ok(Stream::inward_of(Box::new(pipe), ended, self.tools.limit))
            }
            Err(error) => Err(self.cause(Work::Other, &[], &error).await),
        }
    }

    fn ended(self, outcome: Outcome) -> flow::Outcome {
        Box::pin(async move {
            match outcome.end().await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.cause(Work::Other, &[], &error).await),
            }
        })
    }

    /// What a refusal means. Where a number may mean two things, the pool is looked at.
    async fn cause(&self, work: Work, full: &[String], error: &LzcError) -> Cause {
        let seen = match (work, error.code) {
            (Work::Destroy, Code::Busy) => self.holders(full).await,
            (Work::Destroy | Work::Other, Code::Again) => self.suspended().await,
            (Work::Destroy | Work::Other, _) => Seen::Nothing,
        };
        meaning(work, error, seen)
    }

    /// Who holds the first of these snapshots that anybody holds.
    async fn holders(&self, full: &[String]) -> Seen {
        for name in full {
            let held = timeout(self.tools.limit, self.lzc.holds(name.clone())).await;
            let tags: Vec<String> =
                held.ok().and_then(lzc::Result::ok).unwrap_or_default().into_keys().collect();
            if !tags.is_empty() {
                return Seen::Held(format!("snapshot {name} by `{}`", tags.join("`, `")));
            }
        }
        Seen::Nothing
    }

    /// Whether the pool is suspended. One that cannot be asked may be.
    async fn suspended(&self) -> Seen {
        let pool = self.tools.root.split('/').next().unwrap_or_default();
        match self.tools.zpool(&["list", "-H", "-o", "health", pool]).await {
            Ok(health) if health.trim() != "SUSPENDED" => Seen::Nothing,
            Ok(_) | Err(_) => Seen::Suspended,
        }
    }
}

/// What was asked: some numbers mean something else for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// To destroy snapshots.
    Destroy,
    Other,
}

/// What a look at the pool adds to a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// What is held, and by whom.
    Held(String),
    Suspended,
}

fn whole(ends: &Ends) -> Outgoing {
    Outgoing { snapshot: ends.to.clone(), from: ends.from.clone(), form: FORM, at: None }
}

/// Words that the programs turn into numbers. `noauto` is of `canmount` alone; how something is shared is a text, also `off`.
fn value_of(name: &str, value: &str) -> Value {
    match (name, value) {
        ("sharenfs" | "sharesmb", text) => Value::Text(text.to_owned()),
        (_, "off") => Value::Number(0),
        (_, "on") => Value::Number(1),
        (_, "noauto") => Value::Number(2),
        (_, text) => Value::Text(text.to_owned()),
    }
}

/// What a refusal means, with what was seen since.
fn meaning(work: Work, error: &LzcError, seen: Seen) -> Cause {
    let said = error.to_string();
    match error.code {
        Code::Missing => Cause::Missing,
        Code::Exists => match work {
            // What exists is a clone.
            Work::Destroy => Cause::Held(format!("{said}: a clone shares its data")),
            Work::Other => Cause::Exists,
        },
        Code::Busy | Code::Again => match seen {
            Seen::Held(what) => Cause::Held(what),
            Seen::Suspended => Cause::Suspended(said),
            Seen::Nothing => Cause::Busy(said),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(errno: rustix::io::Errno) -> LzcError {
        LzcError::new("destroy", "tank/a@s", Code::of(errno.raw_os_error()))
    }

    #[test]
    fn what_is_busy_is_held_only_if_it_is_held() {
        let busy = refusal(rustix::io::Errno::BUSY);
        for work in [Work::Destroy, Work::Other] {
            let cause = meaning(work, &busy, Seen::Nothing);
            assert!(matches!(cause, Cause::Busy(_)), "it is tried again: {cause:?}");
        }
        let seen = Seen::Held("snapshot tank/a@s by `by-me`".to_owned());
        let cause = meaning(Work::Destroy, &busy, seen);
        assert!(matches!(&cause, Cause::Held(why) if why.contains("by-me")), "{cause:?}");
        let cloned = refusal(rustix::io::Errno::EXIST);
        let cause = meaning(Work::Destroy, &cloned, Seen::Nothing);
        assert!(matches!(&cause, Cause::Held(why) if why.contains("clone")), "{cause:?}");
        assert!(matches!(meaning(Work::Other, &cloned, Seen::Nothing), Cause::Exists));
    }

    #[test]
    fn words_are_the_numbers_that_the_library_wants_and_shares_stay_texts() {
        for (name, value) in crate::zfs::role::SHUT {
            let text = ["mountpoint", "sharenfs", "sharesmb"].contains(&name);
            let value = value_of(name, value);
            assert_eq!(matches!(value, Value::Text(_)), text, "{name}: {value:?}");
            assert_eq!(matches!(value, Value::Number(_)), !text, "{name}: {value:?}");
        }
    }

    #[test]
    fn what_should_be_tried_again_is_suspended_only_if_the_pool_is() {
        let again = refusal(rustix::io::Errno::AGAIN);
        for (seen, suspended) in [(Seen::Nothing, false), (Seen::Suspended, true)] {
            let cause = meaning(Work::Other, &again, seen);
            assert_eq!(matches!(cause, Cause::Suspended(_)), suspended, "{cause:?}");
            assert_eq!(matches!(cause, Cause::Busy(_)), !suspended, "{cause:?}");
        }
        let failed = meaning(Work::Other, &refusal(rustix::io::Errno::IO), Seen::Nothing);
        assert!(matches!(failed, Cause::Suspended(_)), "{failed:?}");
    }
}
