//! The calls themselves, each as long as it takes. Names go in as texts, refusals come out with the name that was refused.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{null, null_mut};

use nvpair_sys::{boolean_t, nvlist_t};
use zfs_core_sys as core;

use super::error::{Code, LzcError, Result};
use super::list::{List, Value, text};
use super::{Form, Intake, Outgoing};

/// Says that a list of errors was cut short; not the name of a snapshot.
const MORE_ERRORS: &str = "n_more_errors";

/// The library while it is open. It counts how often it was opened, and may be called from any thread.
#[derive(Debug)]
pub(super) struct Library(());

impl Library {
    /// Opens it; `None` where the kernel has no OpenZFS.
    pub(super) fn open() -> Option<Self> {
        // SAFETY: may be called at any time; the matching end is in `drop`.
        let number = unsafe { core::libzfs_core_init() };
        (number == 0).then_some(Self(()))
    }

    pub(super) fn exists(&self, name: &str) -> Result<bool> {
        let raw = named("look for", name)?;
        // SAFETY: the library is open, the name lives until the call returns.
        Ok(unsafe { core::lzc_exists(raw.as_ptr()) } != boolean_t::B_FALSE)
    }

    pub(super) fn snapshot(&self, names: &[String], properties: &[(String, Value)]) -> Result<()> {
        let list = flags("snapshot", names)?;
        let properties = filled("snapshot", pairs(properties))?;
        // SAFETY: both lists live until the call returns; the place for errors is `many`'s.
        many("snapshot", names, |errors| unsafe {
            core::lzc_snapshot(list.as_ptr(), properties.as_ptr(), errors)
        })
    }

    pub(super) fn destroy_snapshots(&self, names: &[String]) -> Result<()> {
        let list = flags("destroy", names)?;
        // SAFETY: as for `snapshot`; held or cloned ones are refused instead of being destroyed later.
        many("destroy", names, |errors| unsafe {
            core::lzc_destroy_snaps(list.as_ptr(), boolean_t::B_FALSE, errors)
        })
    }

    pub(super) fn bookmark(&self, pairs: &[(String, String)]) -> Result<()> {
        let names: Vec<String> = pairs.iter().map(|(bookmark, _)| bookmark.clone()).collect();
        let values = pairs.iter().map(|(bookmark, of)| (bookmark, Value::Text(of.clone())));
        let list = filled("bookmark", values)?;
        // SAFETY: as for `snapshot`.
        many("bookmark", &names, |errors| unsafe { core::lzc_bookmark(list.as_ptr(), errors) })
    }

    pub(super) fn destroy_bookmarks(&self, names: &[String]) -> Result<()> {
        let list = flags("destroy", names)?;
        // SAFETY: as for `snapshot`.
        many("destroy", names, |errors| unsafe {
            core::lzc_destroy_bookmarks(list.as_ptr(), errors)
        })
    }

    pub(super) fn hold(&self, pairs: &[(String, String)]) -> Result<()> {
        // The list has one tag for each snapshot: more of them are more calls, as they would be for the kernel.
        let names: Vec<String> = pairs.iter().map(|(snapshot, _)| snapshot.clone()).collect();
        let values = pairs.iter().map(|(snapshot, tag)| (snapshot, Value::Text(tag.clone())));
        let list = filled("hold", values)?;
        // SAFETY: as for `snapshot`; -1: the holds stay when this process ends.
        many("hold", &names, |errors| unsafe { core::lzc_hold(list.as_ptr(), -1, errors) })
    }

    pub(super) fn release(&self, pairs: &[(String, String)]) -> Result<()> {
        let mut tags: BTreeMap<&String, Vec<(String, Value)>> = BTreeMap::new();
        for (snapshot, tag) in pairs {
            tags.entry(snapshot).or_default().push((tag.clone(), Value::Flag));
        }
        let names: Vec<String> = tags.keys().map(|name| (*name).clone()).collect();
        let list = filled("release", tags.into_iter().map(|(name, of)| (name, Value::List(of))))?;
        // SAFETY: as for `snapshot`.
        many("release", &names, |errors| unsafe { core::lzc_release(list.as_ptr(), errors) })
    }

    pub(super) fn holds(&self, snapshot: &str) -> Result<BTreeMap<String, u64>> {
        let raw = named("list the holds of", snapshot)?;
        let mut found = null_mut();
        // SAFETY: the name lives until the call returns, the place for the list is ours.
        let number = unsafe { core::lzc_get_holds(raw.as_ptr(), &raw mut found) };
        // SAFETY: the library gives the list away.
        let found = unsafe { List::from_raw(found) };
        check("list the holds of", snapshot, number)?;
        let entries = found.map(|list| list.entries()).unwrap_or_default();
        let tags = entries.into_iter().filter_map(|(tag, value)| Some((tag, value.number()?)));
        Ok(tags.collect())
    }

    pub(super) fn send_space(&self, outgoing: &Outgoing) -> Result<u64> {
        let work = "estimate a stream of";
        let (snapshot, from) = ends(work, outgoing)?;
        let mut bytes = 0;
        // SAFETY: the names live until the call returns, null means a full stream, the place for the number is ours.
        let number = unsafe {
            core::lzc_send_space(
                snapshot.as_ptr(),
                or_null(&from),
                form(outgoing.form),
                &raw mut bytes,
            )
        };
        check(work, &outgoing.snapshot, number)?;
        Ok(bytes)
    }

    pub(super) fn send(&self, outgoing: &Outgoing, out: &impl AsFd) -> Result<()> {
        let (snapshot, from) = ends("send", outgoing)?;
        let (object, offset) = outgoing.at.unwrap_or_default();
        let fd = out.as_fd().as_raw_fd();
        // SAFETY: names and descriptor live until the call returns; zero and zero: from the beginning.
        let number = unsafe {
            core::lzc_send_resume(
                snapshot.as_ptr(),
                or_null(&from),
                fd,
                form(outgoing.form),
                object,
                offset,
            )
        };
        check("send", &outgoing.snapshot, number)
    }

    pub(super) fn receive(&self, intake: &Intake, input: &impl AsFd) -> Result<()> {
        let snapshot = named("receive", &intake.snapshot)?;
        let origin = intake.origin.as_deref().map(|name| named("receive", name)).transpose()?;
        let properties = filled("receive", pairs(&intake.properties))?;
        let fd = input.as_fd().as_raw_fd();
        let (mut bytes, mut flags, mut action, mut errors) = (0, 0, 0, null_mut());
        // SAFETY: names, list and descriptor live until the call returns and the places for answers are ours. Null: no
        // received properties, no key, and the head of the stream is still to be read. Never by force.
        let number = unsafe {
            core::lzc_receive_with_cmdprops(
                snapshot.as_ptr(),
                null_mut(),
                properties.as_ptr(),
                null_mut(),
                0,
                or_null(&origin),
                boolean_t::B_FALSE,
                boolean(intake.resumable),
                boolean(intake.raw),
                fd,
                null(),
                -1,
                &raw mut bytes,
                &raw mut flags,
                &raw mut action,
                &raw mut errors,
            )
        };
        // SAFETY: the library gives the list away, if it made one. It names properties, which the stream did not wait for.
        let errors = unsafe { List::from_raw(errors) };
        check("receive", &intake.snapshot, number)?;
        first_refused("set a property of", errors.as_ref())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: this is the end of the one `init` that made this value, and no call of it runs any more.
        unsafe { core::libzfs_core_fini() }
    }
}

/// A call with many names that takes all of them or none, and says in a list which it refused.
fn many(
    work: &'static str,
    names: &[String],
    call: impl FnOnce(*mut *mut nvlist_t) -> c_int,
) -> Result<()> {
    let mut errors = null_mut();
    let number = call(&raw mut errors);
    // SAFETY: the library gives the list away, if it made one.
    let errors = unsafe { List::from_raw(errors) };
    // Some calls answer zero and still name what they left out.
    first_refused(work, errors.as_ref())?;
    check(work, &names.join(", "), number)
}

/// The first name of a list of errors.
fn first_refused(work: &'static str, errors: Option<&List>) -> Result<()> {
    for (name, value) in errors.map(List::entries).unwrap_or_default() {
        if let Value::Error(number) = value
            && name != MORE_ERRORS
        {
            check(work, &name, number)?;
        }
    }
    Ok(())
}

fn check(work: &'static str, on: &str, number: c_int) -> Result<()> {
    if number == 0 { Ok(()) } else { Err(LzcError::new(work, on, Code::of(number))) }
}

fn named(work: &'static str, name: &str) -> Result<CString> {
    text(name).map_err(|code| LzcError::new(work, name, code))
}

fn ends(work: &'static str, outgoing: &Outgoing) -> Result<(CString, Option<CString>)> {
    let from = outgoing.from.as_deref().map(|name| named(work, name)).transpose()?;
    Ok((named(work, &outgoing.snapshot)?, from))
}

fn or_null(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

fn flags(work: &'static str, names: &[String]) -> Result<List> {
    filled(work, names.iter().map(|name| (name, Value::Flag)))
}

fn filled<'a>(
    work: &'static str,
    values: impl IntoIterator<Item = (&'a String, Value)>,
) -> Result<List> {
    let mut list = List::new().map_err(|code| LzcError::new(work, "a list of names", code))?;
    for (name, value) in values {
        list.add(name, &value).map_err(|code| LzcError::new(work, name, code))?;
    }
    Ok(list)
}

fn pairs(values: &[(String, Value)]) -> impl Iterator<Item = (&String, Value)> {
    values.iter().map(|(name, value)| (name, value.clone()))
}

fn boolean(yes: bool) -> boolean_t::Type {
    if yes { boolean_t::B_TRUE } else { boolean_t::B_FALSE }
}

fn form(form: Form) -> core::lzc_send_flags::Type {
    [
        (form.large, core::lzc_send_flags::LZC_SEND_FLAG_LARGE_BLOCK),
        (form.compressed, core::lzc_send_flags::LZC_SEND_FLAG_COMPRESS),
        (form.embedded, core::lzc_send_flags::LZC_SEND_FLAG_EMBED_DATA),
        (form.raw, core::lzc_send_flags::LZC_SEND_FLAG_RAW),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |flags, (_, flag)| flags | flag)
}
