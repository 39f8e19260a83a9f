//! A program with its arguments and its environment, as execve(2) takes them: strings that end with
//! a NUL, all of them in one buffer.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// See the module.
#[derive(Debug)]
pub struct Program {
    /// Path, directory, arguments and variables, each followed by a NUL.
    bytes: Vec<u8>,
    /// Where each of them starts.
    starts: Vec<usize>,
    /// How many of them are no variables.
    words: usize,
    has_nul: bool,
}

/// Strings without further NULs.
pub(super) struct Strings<'a>(&'a Program);

impl Program {
    /// The file at `path`, for a start in `directory`. Both are absolute.
    pub fn new(path: &Path, directory: &Path) -> Self {
        let (bytes, starts) = (Vec::with_capacity(4096), Vec::with_capacity(96));
        let mut program = Self { bytes, starts, words: 0, has_nul: false };
        program.push(path.as_os_str().as_bytes());
        program.push(directory.as_os_str().as_bytes());
        program.words = program.starts.len();
        program
    }

    /// Appends the `words`, the name of the program first. Variables come after them.
    pub fn with_arguments<'w>(mut self, words: impl IntoIterator<Item = &'w [u8]>) -> Self {
        debug_assert_eq!(self.words, self.starts.len(), "no argument follows a variable");
        words.into_iter().for_each(|word| self.push(word));
        self.words = self.starts.len();
        self
    }

    /// Appends `variables`, each as `NAME=value`. Names are unique: the C library takes the first of
    /// two, others the last.
    pub fn with_variables<'v>(mut self, variables: impl IntoIterator<Item = &'v [u8]>) -> Self {
        variables.into_iter().for_each(|variable| self.push(variable));
        self
    }

    fn push(&mut self, string: &[u8]) {
        self.starts.push(self.bytes.len());
        self.has_nul |= string.contains(&0);
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
    }

    /// Its strings.
    ///
    /// # Errors
    /// `InvalidInput` when one contains a NUL: it would end there.
    pub(super) fn strings(&self) -> io::Result<Strings<'_>> {
        match self.has_nul {
            true => Err(io::ErrorKind::InvalidInput.into()),
            false => Ok(Strings(self)),
        }
    }
}

impl<'a> Strings<'a> {
    pub fn path(&self) -> io::Result<&'a CStr> {
        self.at(0)
    }

    pub fn directory(&self) -> io::Result<&'a CStr> {
        self.at(1)
    }

    fn at(&self, index: usize) -> io::Result<&'a CStr> {
        let rest = self.0.starts.get(index).and_then(|start| self.0.bytes.get(*start..));
        let string = rest.and_then(|rest| CStr::from_bytes_until_nul(rest).ok());
        string.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The argument vector, which ends with a null pointer.
    pub fn arguments(&self) -> Vec<*const c_char> {
        self.list(&self.0.starts[2..self.0.words])
    }

    /// The environment, which ends with a null pointer.
    pub fn variables(&self) -> Vec<*const c_char> {
        self.list(&self.0.starts[self.0.words..])
    }

    fn list(&self, starts: &[usize]) -> Vec<*const c_char> {
        let mut list = Vec::with_capacity(starts.len() + 1);
        list.extend(starts.iter().map(|start| self.0.bytes[*start..].as_ptr().cast()));
        list.push(ptr::null());
        list
    }
}
