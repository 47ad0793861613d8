//! Terminals for programs that people talk to: a pair of ends, of which the program has one. Knows no grain.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use crate::runtime::Window;

/// The end of a terminal that a person holds.
#[derive(Debug)]
pub struct Terminal {
    printed: pipe::Receiver,
    typed: pipe::Sender,
}

impl Terminal {
    /// A new terminal of this size, and the end for a program.
    pub(crate) fn open(window: Window) -> io::Result<(Self, OwnedFd)> {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&end)?;
        unlockpt(&end)?;
        let name = ptsname(&end, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program = rustix::fs::open(&name, flags, Mode::empty())?;
        rustix::io::ioctl_fionbio(&end, true)?;
        let end = File::from(end);
        // Not pipes, but read and written in the same way.
        let typed = pipe::Sender::from_file_unchecked(end.try_clone()?)?;
        let terminal = Self { printed: pipe::Receiver::from_file_unchecked(end)?, typed };
        terminal.resize(window)?;
        Ok((terminal, program))
    }

    /// Tells the program that the terminal has another size now.
    ///
    /// # Errors
    /// What the system says.
    pub fn resize(&self, window: Window) -> io::Result<()> {
        let (ws_row, ws_col) = (window.rows, window.columns);
        Ok(tcsetwinsize(&self.typed, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.printed).poll_read(context, buffer) {
            // Nobody holds the other end any more: that is its end.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.typed).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
