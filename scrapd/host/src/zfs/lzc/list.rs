//! Lists of names and values as the library takes and gives them. Each is owned by one value here and freed with it.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{NonNull, null_mut};

use nvpair_sys as nvpair;

use super::error::Code;

/// A value of a list, as far as they are needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Only the name counts.
    Flag,
    /// A number; also of properties with a few words, whose number OpenZFS wants.
    Number(u64),
    /// A text.
    Text(String),
    /// The number of an error.
    Error(i32),
    /// Another list.
    List(Vec<(String, Value)>),
    /// Something else.
    Other,
}

impl Value {
    /// The number, if it is one.
    pub(super) fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<String> {
        if let Self::Text(text) = self { Some(text.clone()) } else { None }
    }
}

/// A list of the library.
#[derive(Debug)]
pub(super) struct List(NonNull<nvpair::nvlist_t>);

// SAFETY: a list is plain memory of the process that knows no thread; it is only reached through its one owner.
unsafe impl Send for List {}

impl List {
    /// An empty one, whose names are unique.
    pub(super) fn new() -> Result<Self, Code> {
        let mut raw = null_mut();
        // SAFETY: the pointer is ours to be written to; the list that it then points to belongs to nobody else.
        let number = unsafe { nvpair::nvlist_alloc(&raw mut raw, nvpair::NV_UNIQUE_NAME, 0) };
        done(number)?;
        NonNull::new(raw).map(Self).ok_or(Code::Lost)
    }

    /// Takes over a list that the library has made; `None` if it made none.
    ///
    /// # Safety
    /// The pointer is null or of a list that is freed by nobody else.
    pub(super) unsafe fn from_raw(raw: *mut nvpair::nvlist_t) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Reads a list out of its packed bytes.
    pub(super) fn unpack(packed: &mut [u8]) -> Result<Self, Code> {
        let mut raw = null_mut();
        let length = u64::try_from(packed.len()).map_err(|_| Code::Invalid)?;
        let bytes = packed.as_mut_ptr().cast::<c_char>();
        // SAFETY: the library reads at most so many of our bytes, checks their form, and copies what it keeps.
        let number = unsafe { nvpair::nvlist_unpack(bytes, length, &raw mut raw, 0) };
        done(number)?;
        NonNull::new(raw).map(Self).ok_or(Code::Lost)
    }

    /// For a call that reads it, or adds errors to it, and keeps nothing of it.
    pub(super) fn as_ptr(&self) -> *mut nvpair::nvlist_t {
        self.0.as_ptr()
    }

    /// Adds a value, or replaces the one of that name.
    pub(super) fn add(&mut self, name: &str, value: &Value) -> Result<(), Code> {
        let name = text(name)?;
        let (list, name) = (self.as_ptr(), name.as_ptr());
        let number = match value {
            // SAFETY: list and name live until the call returns; it copies the name.
            Value::Flag => unsafe { nvpair::nvlist_add_boolean(list, name) },
            // SAFETY: as above.
            Value::Number(number) => unsafe { nvpair::nvlist_add_uint64(list, name, *number) },
            // SAFETY: as above.
            Value::Error(number) => unsafe { nvpair::nvlist_add_int32(list, name, *number) },
            Value::Text(value) => {
                let value = text(value)?;
                // SAFETY: as above; it copies the text too.
                unsafe { nvpair::nvlist_add_string(list, name, value.as_ptr()) }
            }
            Value::List(values) => {
                let mut inner = Self::new()?;
                for (name, value) in values {
                    inner.add(name, value)?;
                }
                // SAFETY: as above; it copies the inner list, which is freed here.
                unsafe { nvpair::nvlist_add_nvlist(list, name, inner.as_ptr()) }
            }
            Value::Other => return Err(Code::Invalid),
        };
        done(number)
    }

    /// Everything in it, in order.
    pub(super) fn entries(&self) -> Vec<(String, Value)> {
        // SAFETY: the list is ours and whole.
        unsafe { entries(self.as_ptr()) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is ours alone and is not used after this.
        unsafe { nvpair::nvlist_free(self.as_ptr()) }
    }
}

/// A text for the library.
pub(super) fn text(text: &str) -> Result<CString, Code> {
    CString::new(text).map_err(|_| Code::NoText)
}

fn done(number: c_int) -> Result<(), Code> {
    if number == 0 { Ok(()) } else { Err(Code::of(number)) }
}

/// Everything in a list.
///
/// # Safety
/// The pointer is of a whole list that nobody changes meanwhile.
unsafe fn entries(list: *mut nvpair::nvlist_t) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    // SAFETY: by the caller's word the list is whole; null asks for the first pair.
    let mut pair = unsafe { nvpair::nvlist_next_nvpair(list, null_mut()) };
    while !pair.is_null() {
        // SAFETY: the pair is of this list, and its name ends with zero and lives as long as the list.
        let name = unsafe { CStr::from_ptr(nvpair::nvpair_name(pair)) };
        // SAFETY: the pair is of this list.
        found.push((name.to_string_lossy().into_owned(), unsafe { value(pair) }));
        // SAFETY: as for the first; the pair is of this list.
        pair = unsafe { nvpair::nvlist_next_nvpair(list, pair) };
    }
    found
}

/// The value of a pair.
///
/// # Safety
/// The pointer is of a pair of a whole list that nobody changes meanwhile.
unsafe fn value(pair: *mut nvpair::nvpair_t) -> Value {
    // SAFETY: by the caller's word.
    let kind = unsafe { nvpair::nvpair_type(pair) };
    let found = match kind {
        nvpair::data_type_t::DATA_TYPE_BOOLEAN => Some(Value::Flag),
        nvpair::data_type_t::DATA_TYPE_INT32 => {
            let mut found = 0;
            // SAFETY: the pair is whole, and the place for its value is ours.
            let number = unsafe { nvpair::nvpair_value_int32(pair, &raw mut found) };
            (number == 0).then_some(Value::Error(found))
        }
        nvpair::data_type_t::DATA_TYPE_UINT64 => {
            let mut found = 0;
            // SAFETY: as above.
            let number = unsafe { nvpair::nvpair_value_uint64(pair, &raw mut found) };
            (number == 0).then_some(Value::Number(found))
        }
        nvpair::data_type_t::DATA_TYPE_STRING => {
            let mut found = null_mut();
            // SAFETY: as above.
            let number = unsafe { nvpair::nvpair_value_string(pair, &raw mut found) };
            // SAFETY: the text ends with zero and lives as long as the pair.
            let read = || unsafe { CStr::from_ptr(found) }.to_string_lossy().into_owned();
            (number == 0).then(|| Value::Text(read()))
        }
        nvpair::data_type_t::DATA_TYPE_NVLIST => {
            let mut found = null_mut();
            // SAFETY: as above.
            let number = unsafe { nvpair::nvpair_value_nvlist(pair, &raw mut found) };
            // SAFETY: the inner list is a part of the pair.
            (number == 0).then(|| Value::List(unsafe { entries(found) }))
        }
        _ => None,
    };
    found.unwrap_or(Value::Other)
}
